// The same question for a terminal or a program, to copy.

import { element, find, say, tabs } from "./elements.js";

let texts = {};
let chosen = "";

const select = tabs(find("snippet-tabs"), (tab) => {
  chosen = tab.textContent;
  find("snippet-text").textContent = texts[chosen];
});

export function snippets(answer, item) {
  const any = answer && Object.keys(answer.snippets).length > 0;
  find("again").hidden = !any;
  if (!any) return;
  texts = answer.snippets;
  const list = find("snippet-tabs");
  if ([...list.children].map((tab) => tab.textContent).join() !== Object.keys(texts).join()) {
    list.replaceChildren(...Object.keys(texts).map((name) => element("button", { type: "button", role: "tab", "aria-controls": "snippet" }, name)));
  }
  select([...list.children].find((tab) => tab.textContent === chosen) ?? list.children[0]);
  find("save").hidden = !item.seenUrl;
  find("save").href = item.seenUrl ?? "#again";
  find("save").download = `${(item.name ?? "").replace(/\.\w+$/, "")}.png`;
}

find("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(texts[chosen]);
  } catch {
    // Without TLS the clipboard is this machine's pages' only.
    getSelection().selectAllChildren(find("snippet-text"));
    document.execCommand("copy");
  }
  find("copy").textContent = "Copied";
  say("Copied");
  setTimeout(() => { find("copy").textContent = "Copy"; }, 1500);
});
