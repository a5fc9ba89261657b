// A form for any other model than ours, made from its signatures, and what the versions answer.

import { ask, element, find, milliseconds, say, show } from "./elements.js";
import { snippets } from "./snippets.js";

let known = "";
let signatures = [];

// Built anew only where the signatures are others: nobody's input is lost.
export function form(state) {
  const text = JSON.stringify(state.signatures ?? []);
  if (state.waiting || text === known) return;
  known = text;
  signatures = state.signatures ?? [];
  const any = signatures.length > 0;
  find("form").hidden = !any;
  document.querySelector("#ask .tabs").hidden = any;
  for (const name of ["picture", "draw"]) {
    find(`panel-${name}`).hidden = any || find(`tab-${name}`).getAttribute("aria-selected") !== "true";
  }
  find("ask-title").textContent = any ? "Ask the model" : "Show it a garment";
  find("empty").firstElementChild.toggleAttribute("hidden", any);
  find("empty").lastElementChild.hidden = any;
  find("empty-any").hidden = !any;
  find("signature").replaceChildren(...signatures.map(({ name }) => element("option", { value: name }, name)));
  const usual = signatures.find(({ name }) => name === "serving_default") ?? signatures[0];
  if (usual) find("signature").value = usual.name;
  fields();
}

const chosen = () => signatures.find(({ name }) => name === find("signature").value);

function fields() {
  const inputs = chosen()?.inputs ?? [];
  find("fields").replaceChildren(...inputs.flatMap(({ name, takes, sample }, index) => [
    element("label", { htmlFor: `field-${index}` }, `${name} `, element("small", {}, takes)),
    element("textarea", { id: `field-${index}`, value: sample, spellcheck: false, "aria-describedby": `wrong-${index}` }),
    element("p", { id: `wrong-${index}`, className: "wrong" }),
  ]));
}

// The text itself is sent: a number of JavaScript would lose digits of an int64.
function question() {
  const pairs = [];
  let wrong = null;
  chosen().inputs.forEach(({ name }, index) => {
    const field = find(`field-${index}`);
    const text = field.value.trim() || "null";
    let reason = "";
    try {
      JSON.parse(text);
    } catch (error) {
      reason = `no JSON: ${error.message}`;
      wrong ??= field;
    }
    field.setAttribute("aria-invalid", Boolean(reason));
    find(`wrong-${index}`).textContent = reason;
    pairs.push(`${JSON.stringify(name)}: ${text}`);
  });
  wrong?.focus();
  return wrong ? null : `{"signature_name": ${JSON.stringify(chosen().name)}, "inputs": {${pairs.join(", ")}}}`;
}

async function submit(event) {
  event.preventDefault();
  const body = question();
  if (!body) return;
  let answer = null;
  let failure = "";
  try {
    answer = await ask("api/infer", { method: "POST", body });
  } catch (error) {
    failure = error.message;
  }
  find("empty").hidden = true;
  find("detail").hidden = false;
  find("pictures").hidden = true;
  find("answer").hidden = !answer;
  find("result-name").textContent = find("signature").value;
  show("failure", failure);
  show("verdict", answer && answer.answers.length > 1 ? verdict(answer) : "");
  find("verdict").classList.toggle("warn", Boolean(answer?.differs));
  find("outputs").replaceChildren(...(answer?.answers ?? []).map(article));
  snippets(answer, {});
  say(failure || "The model has answered.");
}

function verdict(answer) {
  const names = answer.answers.flatMap((each) => each.differences ?? []);
  return names.length ? `They differ in ${names.join(", ")}.` : "Both answer the same.";
}

function article(answer) {
  const labels = answer.label ? answer.label.split(", ") : [];
  const by = [...labels.map((label) => element("span", { className: "chip" }, label)), `version ${answer.version}`, " · ", `${milliseconds(answer.ms)} ms`];
  const outputs = answer.outputs.flatMap(({ name, is, text }) => [
    element("h3", { className: "output" }, `${name} `, element("small", {}, `${is} `), ...(answer.differences?.includes(name) ? [element("span", { className: "delta" }, "differs")] : [])),
    element("pre", { tabIndex: 0, "aria-label": `${name} of version ${answer.version}` }, text),
  ]);
  return element("article", {}, element("p", { className: "by" }, ...by), ...outputs);
}

find("form").addEventListener("submit", submit);
find("signature").addEventListener("change", fields);
