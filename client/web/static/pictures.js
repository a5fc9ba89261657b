// Pictures that are dropped, pasted, chosen, photographed, or samples; each is asked about, a few at a time.

import { ask, element, find, tabs } from "./elements.js";
import { listen } from "./draw.js";
import { added, changed, cleared } from "./answers.js";

const MOST = 300;
const AT_A_TIME = 2;
const SAMPLE_PIXELS = 280;
const SAMPLES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];

let waiting = [];
let running = 0;
let drawing = null;

async function predict(item, signal) {
  const query = new URLSearchParams({ name: item.name, preprocess: item.preprocess });
  try {
    item.answer = await ask(`api/predict?${query}`, { method: "POST", body: item.blob, signal });
    item.failure = "";
  } catch (error) {
    if (error.name === "AbortError") return;
    item.failure = error.message;
  }
  changed(item);
}

async function work() {
  running += 1;
  while (waiting.length) await predict(waiting.shift());
  running -= 1;
}

function show(blobs) {
  if (!blobs.length) return;
  cleared();
  waiting = blobs.slice(0, MOST).map(({ blob, name, preprocess = find("preprocess").value }) => ({ blob, name, preprocess }));
  added(waiting, blobs.length > MOST ? `Only the first ${MOST} of ${blobs.length} pictures are asked about.` : "");
  while (running < Math.min(AT_A_TIME, waiting.length)) work();
}

const files = (list) => show([...list].map((file) => ({ blob: file, name: file.name || "picture.png" })));

// canvas.toBlob would wait until the browser has nothing else to do, for up to a second.
function png(canvas) {
  const bytes = atob(canvas.toDataURL("image/png").split(",")[1]);
  return new Blob([Uint8Array.from(bytes, (byte) => byte.charCodeAt(0))], { type: "image/png" });
}

async function drawn(canvas) {
  const blob = png(canvas);
  drawing?.abort();
  drawing = new AbortController();
  waiting = [];
  const item = { blob, name: "drawing.png", preprocess: "none", drawn: true };
  cleared();
  added([item], "");
  await predict(item, drawing.signal);
}

// A sample is a drawing of lines; the model is given pixels, as of any picture.
function sample(image, name) {
  const canvas = element("canvas", { width: SAMPLE_PIXELS, height: SAMPLE_PIXELS });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, SAMPLE_PIXELS, SAMPLE_PIXELS);
  context.drawImage(image, 0, 0, SAMPLE_PIXELS, SAMPLE_PIXELS);
  show([{ blob: png(canvas), name: `${name}.png`, preprocess: "auto" }]);
}

export function start() {
  for (const name of SAMPLES) {
    const file = name.toLowerCase().replace(/\W/g, "-");
    const image = element("img", { src: `samples/${file}.svg`, alt: name, width: 60, height: 60 });
    const button = element("button", { type: "button", title: name, onclick: () => sample(image, file) }, image);
    find("samples").append(element("li", {}, button));
  }
  for (const id of ["files", "camera"]) {
    find(id).addEventListener("change", (event) => {
      files(event.target.files);
      // The same file may be chosen again.
      event.target.value = "";
    });
  }
  const drop = find("drop");
  document.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    files(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => files(event.clipboardData.files));
  tabs(document.querySelector("#ask .tabs"), (tab) => {
    for (const name of ["picture", "draw"]) find(`panel-${name}`).hidden = tab.id !== `tab-${name}`;
  });
  listen(find("canvas"), drawn);
}
