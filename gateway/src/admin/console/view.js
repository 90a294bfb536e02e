// A description of elements, and the smallest change that makes the page match it.
//
// The page is drawn anew each second. What is the same stays the same element, so focus, selection, scroll and open
// details survive. Text only ever becomes text: nothing here can turn what a client sent into markup.

const SVG = "http://www.w3.org/2000/svg";
const OF_SVG = new Set(["svg", "rect", "line", "path", "text", "tspan", "g", "title"]);
const FIELDS = new Set(["input", "select"]);

/**
 * Describes an element. `attributes.key` tells siblings apart; a function is a handler; null and false are left out.
 * `attributes.own` is called with the element each time instead of drawing children: what is in it is the caller's.
 */
export function h(tag, attributes = {}, ...children) {
  return { tag, attributes: attributes ?? {}, children: children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false) };
}

/** Makes the children of `parent` match the descriptions. */
export function draw(parent, ...wanted) {
  const children = wanted.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
  const keyed = new Map();
  for (const node of parent.childNodes) if (node.drawnKey !== undefined) keyed.set(node.drawnKey, node);
  let at = parent.firstChild;
  for (const child of children) {
    const found = match(child, at, keyed);
    const node = found ?? create(child);
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
    if (typeof child === "object") update(node, child);
    else if (node.data !== String(child)) node.data = String(child);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

/** The node that may become `child`. */
function match(child, at, keyed) {
  if (typeof child !== "object") return at?.nodeType === Node.TEXT_NODE ? at : undefined;
  const key = child.attributes.key;
  if (key !== undefined) {
    const node = keyed.get(key);
    return node?.localName === child.tag ? node : undefined;
  }
  return at?.nodeType === Node.ELEMENT_NODE && at.localName === child.tag && at.drawnKey === undefined ? at : undefined;
}

function create(child) {
  if (typeof child !== "object") return document.createTextNode(String(child));
  const node = OF_SVG.has(child.tag) ? document.createElementNS(SVG, child.tag) : document.createElement(child.tag);
  if (child.attributes.key !== undefined) node.drawnKey = child.attributes.key;
  return node;
}

function update(node, { attributes, children }) {
  const before = node.drawnAttributes ?? {};
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "key" || name === "own" || value === before[name]) continue;
    if (typeof value === "function") node[name] = value;
    else if (value === null || value === undefined || value === false) node.removeAttribute(name);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const name of Object.keys(before)) {
    if (name in attributes || name === "key" || name === "own") continue;
    if (typeof before[name] === "function") node[name] = null;
    else node.removeAttribute(name);
  }
  node.drawnAttributes = attributes;
  if (attributes.own) attributes.own(node);
  else draw(node, children);
  // What a field holds is its property; the attribute is only what it begins with. What is being typed is not touched.
  if (FIELDS.has(node.localName) && attributes.value !== undefined && attributes.value !== before.value && node !== document.activeElement) node.value = attributes.value;
}
