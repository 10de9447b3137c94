/** Building and updating the page. Everything is set as text: nothing that a server says becomes markup. */

export const $ = (id) => document.getElementById(id);

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

export function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

/** Make a parent's children those of the items, each kept by its key: what has the focus keeps it. */
export function keyed(parent, items, keyOf, make, update) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let before = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let child = old.get(key);
    if (child === undefined) {
      child = make(item);
      child.dataset.key = key;
    }
    old.delete(key);
    update(child, item);
    if (child === before) before = before.nextElementSibling;
    else parent.insertBefore(child, before);
  }
  for (const child of old.values()) child.remove();
}

/** Rows of a table: `cells` returns for an item the text of each cell, or a node; `kinds` the cells' classes. */
export function rows(body, items, keyOf, kinds, cells) {
  const make = () => h("tr", {}, ...kinds.map((kind) => h("td", { class: kind || null })));
  keyed(body, items, keyOf, make, (row, item) => {
    cells(item).forEach((cell, at) => {
      const place = row.children[at];
      if (typeof cell === "string") text(place, cell);
      else if (!(place.firstChild && place.firstChild.isEqualNode(cell) && place.childNodes.length === 1)) place.replaceChildren(cell);
    });
  });
}

export function meter(part, label) {
  const filled = h("i");
  filled.style.width = `${Math.round(100 * Math.min(1, Math.max(0, part)))}%`;
  return h("span", {}, h("span", { class: "meter", "aria-hidden": true }, filled), label);
}

let silence;
/** Say the result of an action, at the bottom and to screen readers. */
export function say(words, bad = false) {
  const place = $("said");
  place.toggleAttribute("data-bad", bad);
  text(place, words);
  clearTimeout(silence);
  silence = setTimeout(() => text(place, ""), bad ? 12_000 : 6_000);
}

export function problemIn(id, error) {
  const place = $(id);
  place.hidden = error === null;
  text(place, error === null ? "" : error.message);
}
