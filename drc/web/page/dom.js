// Elements from data. All text goes in as text nodes: nothing here parses HTML.

const SVG = "http://www.w3.org/2000/svg";

/** Return an element; `props` are attributes: functions become listeners, `null` is left out. */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** Return an SVG element; `props` as for HTML elements. */
export function s(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}

export const $ = (id) => document.getElementById(id);

/** Change a text only when the text differs, so that screen readers read only news. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Draw again only when `data` changed: focus, folds and selection stay. */
export function redraw(node, data, draw) {
  const now = JSON.stringify(data);
  if (node.drawnFrom === now) return;
  node.drawnFrom = now;
  const open = new Set([...node.querySelectorAll("details[open]")].map((d) => d.dataset.key));
  node.replaceChildren(...[draw(data)].flat());
  for (const details of node.querySelectorAll("details")) {
    details.open = open.has(details.dataset.key);
  }
}

/** Return a command with a copy button. */
export function command(text) {
  const button = h("button", { type: "button", class: "plain small", "aria-label": `Copy ${text}` }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      say(button, "Copied");
    } catch {
      getSelection().selectAllChildren(code); // no clipboard without HTTPS: the user copies by hand
      say(button, "Selected");
    }
    setTimeout(() => say(button, "Copy"), 2000);
  });
  const code = h("code", {}, text);
  return h("div", { class: "command" }, code, button);
}

/** Draw a group of buttons; the chosen button is pressed. */
export function pick(node, options, chosen, choose) {
  redraw(node, [options, chosen], () =>
    options.map(([value, label]) =>
      h("button", { type: "button", "aria-pressed": String(value === chosen), click: () => choose(value) }, label),
    ),
  );
}
