// A canvas of 28 x 28 pixels, drawn on with a pointer or with the arrow keys and the space bar.

import { find } from "./elements.js";

const SIZE = 28;
const PAUSE_MS = 150;
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// Calls `drawn` with the canvas a moment after each stroke.
export function listen(canvas, drawn) {
  const context = canvas.getContext("2d");
  let last = null;
  let timer = 0;
  const place = { x: SIZE / 2, y: SIZE / 2 };

  const clear = () => {
    context.globalCompositeOperation = "source-over";
    context.fillStyle = "#000";
    context.fillRect(0, 0, SIZE, SIZE);
  };
  const stroke = (from, to) => {
    const width = Number(document.querySelector("#brushes :checked").value);
    context.strokeStyle = width > 0 ? "#fff" : "#000";
    context.lineWidth = Math.abs(width);
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(from.x, from.y);
    context.lineTo(to.x + 0.001, to.y);
    context.stroke();
    clearTimeout(timer);
    timer = setTimeout(drawn, PAUSE_MS, canvas);
  };
  const position = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: ((event.clientX - box.left) / box.width) * SIZE, y: ((event.clientY - box.top) / box.height) * SIZE };
  };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    last = position(event);
    stroke(last, last);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    for (const step of event.getCoalescedEvents?.() ?? [event]) {
      const next = position(step);
      stroke(last, next);
      last = next;
    }
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { last = null; });
  canvas.addEventListener("keydown", (event) => {
    const [x, y] = STEPS[event.key] ?? (event.key === " " ? [0, 0] : []);
    if (x === undefined) return;
    event.preventDefault();
    const from = { ...place };
    place.x = Math.min(SIZE - 1, Math.max(1, place.x + x));
    place.y = Math.min(SIZE - 1, Math.max(1, place.y + y));
    // Shift with an arrow draws a line.
    if (event.key === " " || event.shiftKey) stroke(from, place);
  });
  find("clear").addEventListener("click", () => {
    clear();
    canvas.focus();
  });
  clear();
}
