// The server as it is: versions, labels and their moves, requests a second, latency.

import { element, find, milliseconds, show } from "./elements.js";

export function live(state) {
  const { counts } = state;
  find("served-text").textContent = `${state.model_name} at ${state.server}`;
  show("uncounted", state.uncounted);
  find("rates").toggleAttribute("hidden", !counts || counts.rates.length < 2);
  find("figures").hidden = !counts;
  if (counts) figures(counts);
  find("versions").replaceChildren(...state.versions.flatMap((version) => row(version, state.labels)));
  const moves = state.moves.map((move) => element("li", {}, moved(move)));
  find("moves").replaceChildren(...(moves.length ? moves : [element("li", {}, "None since this page's program runs.")]));
}

function figures({ rate, errors, latency_ms: latency, rates }) {
  const all = [
    ["requests/s", rate === null ? "–" : rate.toFixed(rate < 10 ? 1 : 0), ""],
    ...[50, 90, 99].map((part) => [`p${part}`, milliseconds(latency[part]), " ms"]),
  ];
  if (errors) all.push(["errors", errors.toFixed(0), " a minute"]);
  find("figures").replaceChildren(...all.map(([name, value, unit]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value, element("small", {}, value === "–" ? "" : unit)))));
  const top = Math.max(1, ...rates);
  const points = rates.map((value, index) => `${(100 * index) / Math.max(1, rates.length - 1)},${28 - (26 * value) / top}`);
  const [area, line] = find("rates").children;
  line.setAttribute("points", points.join(" "));
  area.setAttribute("d", points.length ? `M0,30L${points.join("L")}L100,30Z` : "");
}

function row(version, labels) {
  const up = version.state === "AVAILABLE";
  const failed = version.error_code !== "OK";
  const names = Object.keys(labels).filter((label) => labels[label] === version.version);
  const state = element("td", {}, element("span", { className: `dot ${up ? "up" : failed ? "down" : ""}` }), version.state);
  const cells = element("tr", {}, element("td", {}, String(version.version)), state,
    element("td", {}, ...names.map((name) => element("span", { className: "chip" }, name))), element("td", {}, version.runtime || "–"));
  if (!failed) return [cells];
  return [cells, element("tr", {}, element("td", { className: "bad", colSpan: 4 }, `${version.error_code}: ${version.error_message}`))];
}

function moved({ time, label, before, after }) {
  const at = new Date(time).toLocaleTimeString();
  if (after === null) return `${at}  ${label} is gone; it was version ${before}`;
  return before === null ? `${at}  ${label} is version ${after} now` : `${at}  ${label} moved from version ${before} to ${after}`;
}

export function trouble(text) {
  const dot = document.querySelector("#served .dot");
  dot.className = `dot ${text ? "down" : "up"}`;
  if (find("trouble").textContent === text) return;
  find("trouble").replaceChildren(...(text ? [element("p", {}, text)] : []));
  find("trouble").hidden = !text;
  if (text) show("served-text", "no answer");
}
