// What the other modules share: elements, numbers for people, the page's own backend.

export const find = (id) => document.getElementById(id);

export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

export function show(id, text) {
  const shown = find(id);
  if (shown.textContent !== text) shown.textContent = text;
  shown.hidden = !text;
}

// For screen readers: what has changed elsewhere on the page.
export const say = (text) => { find("said").textContent = text; };

export const percent = (share) => (share === null ? "no number" : `${(100 * share).toFixed(1)} %`);

export function milliseconds(value) {
  if (value === null || value === undefined) return "–";
  return value < 10 ? value.toFixed(1) : value.toFixed(0);
}

export async function ask(path, options) {
  let response, answer;
  try {
    response = await fetch(path, options);
    answer = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("This page's own program has ended: start `fashion web` again. The page goes on by itself then.");
  }
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

// Tabs as https://www.w3.org/WAI/ARIA/apg/patterns/tabs/ has them; `selected` is called with the tab.
export function tabs(list, selected) {
  const select = (tab) => {
    for (const other of list.children) {
      other.setAttribute("aria-selected", other === tab);
      other.tabIndex = other === tab ? 0 : -1;
    }
    selected(tab);
  };
  list.addEventListener("click", (event) => { if (event.target.role === "tab") select(event.target); });
  list.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const all = [...list.children];
    const next = all[(all.indexOf(event.target) + step + all.length) % all.length];
    select(next);
    next.focus();
  });
  return select;
}
