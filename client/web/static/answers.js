// What the model answered of one picture, or of many in a grid; of two versions side by side.

import { element, find, milliseconds, percent, say, show } from "./elements.js";
import { snippets } from "./snippets.js";

let items = [];
let selected = null;
export let classNames = [];
export const setClassNames = (names) => { classNames = names; };

export function cleared() {
  for (const item of items) for (const url of [item.url, item.seenUrl]) URL.revokeObjectURL(url);
  items = [];
  find("grid").replaceChildren();
}

export function added(all, note) {
  items = [...all];
  for (const item of items) item.url = URL.createObjectURL(item.blob);
  find("empty").hidden = true;
  find("grid").hidden = items.length < 2;
  if (items.length > 1) {
    for (const item of items) {
      item.button = element("button", { type: "button", onclick: () => select(item) });
      find("grid").append(element("li", {}, item.button));
      tile(item);
    }
  }
  show("note", note);
  // On a narrow screen the answer is below; who draws wants to stay.
  items[0].moves = !items[0].drawn && matchMedia("(max-width: 860px)").matches;
  select(items[0]);
}

export function changed(item) {
  if (!items.includes(item)) return;
  if (item.answer) {
    const bytes = Uint8Array.from(atob(item.answer.png), (sign) => sign.charCodeAt(0));
    item.seenUrl = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
  }
  if (item.button) tile(item);
  if (item === selected) detail(item);
  const done = items.filter((each) => each.answer || each.failure).length;
  if (items.length > 1 && done === items.length) say(`${done} pictures answered.`);
}

function tile(item) {
  const first = item.answer?.answers[0];
  let line = [element("b", {}, "…")];
  if (item.failure) line = [element("b", { className: "bad" }, "not read"), element("span", {}, item.failure)];
  else if (first) {
    const name = item.answer.differs ? item.answer.answers.map((each) => each.class_name).join(" / ") : first.class_name;
    line = [element("b", { className: item.answer.differs ? "differs" : "" }, name), element("span", {}, percent(first.probability) + (item.answer.warning ? " ⚠" : ""))];
  }
  item.button.replaceChildren(picture(item), ...line, element("span", {}, item.name));
}

// A browser shows fewer kinds of pictures than the server reads.
const picture = (item) => element("img", { src: item.url, alt: "", onerror: (event) => event.target.replaceWith(element("i", { className: "blank" })) });

function select(item) {
  selected = item;
  for (const each of items) each.button?.setAttribute("aria-pressed", each === item);
  detail(item);
}

function detail(item) {
  const answer = item.answer;
  find("detail").hidden = false;
  find("result-name").textContent = item.name;
  show("failure", item.failure ?? "");
  show("warning", answer?.warning ?? "");
  const original = find("original");
  original.className = item.drawn ? "pixels" : "";
  original.onerror = () => { original.className = "blank"; };
  original.src = item.url;
  find("answer").hidden = !answer;
  show("verdict", answer && answer.answers.length > 1 ? verdict(answer) : "");
  find("verdict").classList.toggle("warn", Boolean(answer?.differs));
  snippets(answer, item);
  if (answer) fillIn(answer, item);
  if (item.moves && (answer || item.failure)) {
    item.moves = false;
    find("result").scrollIntoView();
  }
}

function fillIn(answer, item) {
  find("seen").src = item.seenUrl;
  find("seen").className = "pixels";
  columns(answer.answers);
  const words = answer.answers.map((each) => `${each.class_name}, ${percent(each.probability)}, by version ${each.version}`);
  say([...words, answer.warning].filter(Boolean).join(". "));
}

function verdict(answer) {
  const [first, second] = answer.answers;
  if (answer.differs) return `They differ: ${first.label} says ${first.class_name}, ${second.label} says ${second.class_name}.`;
  const marked = second.differences.filter((value) => value !== null).length;
  const change = marked ? `${marked} of ${classNames.length} probabilities differ by more than half a point.` : "No probability differs by more than half a point.";
  return `Both say ${first.class_name}. ${change}`;
}

// The elements stay, so that bars move from one answer to the next.
function columns(answers) {
  const place = find("answers");
  find("answer").classList.toggle("one", answers.length === 1);
  while (place.children.length > answers.length) place.lastChild.remove();
  while (place.children.length < answers.length) place.append(column());
  answers.forEach((answer, index) => fill(place.children[index], answer));
}

function column() {
  const rows = classNames.map(() => element("li", {},
    element("span"),
    element("span", { className: "bar", "aria-hidden": "true" }, element("i")),
    element("span", { className: "number" }),
    element("span")));
  return element("article", {}, element("p", { className: "by" }), element("p", { className: "class" }), element("ol", { className: "bars" }, ...rows));
}

function fill(place, answer) {
  const [by, name, bars] = place.children;
  const labels = answer.label ? answer.label.split(", ") : [];
  by.replaceChildren(...labels.map((label) => element("span", { className: "chip" }, label)), `version ${answer.version}`, " · ", `${milliseconds(answer.ms)} ms`);
  name.replaceChildren(`${answer.class_name} `, element("small", {}, percent(answer.probability)));
  bars.classList.toggle("compared", Boolean(answer.differences));
  answer.probabilities.forEach((probability, id) => {
    const row = bars.children[id];
    const [label, bar, number, delta] = row.children;
    const difference = answer.differences?.[id] ?? null;
    row.classList.toggle("top", id === answer.class_id);
    label.textContent = id === answer.class_id ? answer.class_name : classNames[id];
    bar.firstChild.style.width = percent(probability ?? 0).replace(" ", "");
    number.textContent = percent(probability);
    delta.className = difference === null ? "" : "delta";
    delta.textContent = difference === null ? "" : `${difference > 0 ? "+" : "−"}${Math.abs(100 * difference).toFixed(1)}`;
  });
}
