/** Elements of the page: found by id, made in one line, changed only where something changes. */

/**
 * Return the element of this id.
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} kind
 * @returns {T}
 */
export function find(id, kind) {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new Error(`#${id} is not a ${kind.name}`);
  return element;
}

/**
 * Return a new element with attributes and children.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string | number>} attributes
 * @param {(Node | string)[]} children
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/**
 * Set the text of an element, unless it has it already.
 * @param {string} id
 * @param {string} text
 */
export function write(id, text) {
  const element = find(id, HTMLElement);
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Copy text to the clipboard. Return whether it worked.
 * @param {string} text
 * @param {string} first the element with the beginning of the text; selected where the clipboard is closed
 * @param {string} last the element with the end of the text
 */
export async function copy(text, first, last = first) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const details = find(first, HTMLElement).closest("details");
    if (details) details.open = true; // what is hidden cannot be copied
    getSelection()?.setBaseAndExtent(find(first, HTMLElement), 0, find(last, HTMLElement), find(last, HTMLElement).childNodes.length);
    return false;
  }
}

/**
 * Call `move` with the position in the element while a pointer is down, and with keys of the arrows.
 * @param {HTMLElement} handle
 * @param {HTMLElement} stage
 * @param {(x: number, y: number) => void} move in pixels of the stage
 * @param {(right: number, up: number) => void} nudge
 */
export function makeDraggable(handle, stage, move, nudge) {
  /** @param {PointerEvent} event */
  const follow = (event) => {
    const box = stage.getBoundingClientRect();
    move(event.clientX - box.left, event.clientY - box.top);
  };
  handle.addEventListener("pointerdown", (event) => {
    handle.setPointerCapture(event.pointerId);
    event.stopPropagation();
  });
  handle.addEventListener("pointermove", (event) => handle.hasPointerCapture(event.pointerId) && follow(event));
  handle.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 5 : 1;
    const right = { ArrowLeft: -step, ArrowRight: step }[event.key] ?? 0;
    const up = { ArrowDown: -step, ArrowUp: step }[event.key] ?? 0;
    if (!right && !up) return;
    event.preventDefault();
    nudge(right, up);
  });
}
