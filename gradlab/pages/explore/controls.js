/** The controls: a slider and a number for each setting, the clearing line, presets, and the code. */

import { find, make, write } from "../shared/elements.js";
import { FULL, LIMITS, PRESETS, clamp, codeOf, commandOf } from "./setting.js";

/**
 * @typedef {import("./setting.js").Setting} Setting
 * @typedef {import("./strings.js").Key} Key
 * @typedef {(key: Key, values?: Record<string, string | number>) => string} Text
 * @typedef {keyof typeof PRESETS} Preset
 */

/** @typedef {"lr" | "keep" | "every" | "batch" | "noise" | "curvature" | "steps" | "w1" | "w2"} Control */
/** @type {Control[]} */
const CONTROLS = ["lr", "keep", "every", "batch", "noise", "curvature", "steps", "w1", "w2"];
const FINE = 300; // positions of a logarithmic slider

/**
 * Return the position of a slider, and the value at a position.
 * @param {Control} name
 * @param {number} value
 */
export function sliderOf(name, value) {
  const { from, to, values, log } = LIMITS[name];
  if (values) return values.indexOf(value);
  return log ? Math.round((FINE * Math.log(value / from)) / Math.log(to / from)) : value;
}

/**
 * @param {Control} name
 * @param {number} position
 */
export function valueOfSlider(name, position) {
  const { from, to, values, log } = LIMITS[name];
  if (values) return values[position];
  return clamp(name, log ? from * (to / from) ** (position / FINE) : position);
}

/**
 * Make the sliders, each with a field for its number.
 * @param {(change: Partial<Setting>) => void} change
 */
export function makeControls(change) {
  for (const name of CONTROLS) {
    const { from, to, values, log, digits } = LIMITS[name];
    const range = make("input", {
      type: "range", id: `${name}-slider`, min: values || log ? 0 : from,
      max: values ? values.length - 1 : log ? FINE : to, step: values || log ? 1 : name === "keep" ? 0.01 : 10 ** -digits,
    }); // prettier-ignore
    const number = make("input", { type: "number", id: `${name}-number`, min: from, max: to, step: "any", inputmode: "decimal" });
    const label = make("label", { for: `${name}-slider`, id: `${name}-label` });
    find("controls", HTMLElement).append(make("div", { class: "control" }, label, range, number));
    range.addEventListener("input", () => change({ [name]: valueOfSlider(name, Number(range.value)) }));
    number.addEventListener("change", () => {
      const typed = number.value.trim() === "" ? NaN : Number(number.value);
      if (!Number.isNaN(typed)) change({ [name]: clamp(name, typed) });
      number.value = ""; // shown again in its short form
      change({});
    });
  }
}

/**
 * Make the choice of the clearing line and the presets.
 * @param {(change: Partial<Setting>) => void} change
 * @param {(preset: Preset) => void} choose
 */
export function makeChoices(change, choose) {
  const keeps = { zero: 0, nothing: 1, half: 0.5, keep: 0.9 };
  for (const radio of radios()) {
    radio.addEventListener("change", () => change({ keep: keeps[/** @type {keyof typeof keeps} */ (radio.value)] }));
  }
  for (const preset of /** @type {Preset[]} */ (Object.keys(PRESETS))) {
    const button = make("button", { type: "button", id: `preset-${preset}`, "aria-pressed": "false" });
    button.addEventListener("click", () => choose(preset));
    find("presets", HTMLElement).append(button);
  }
}

/** @returns {HTMLInputElement[]} */
function radios() {
  return [...find("clearing", HTMLElement).querySelectorAll("input")];
}

/**
 * Show a setting in all controls.
 * @param {Setting} setting
 * @param {Text} text
 */
export function showSetting(setting, text) {
  for (const name of CONTROLS) {
    const slider = find(`${name}-slider`, HTMLInputElement);
    const number = find(`${name}-number`, HTMLInputElement);
    const shown = String(setting[name]);
    const position = String(sliderOf(name, setting[name]));
    if (slider.value !== position) slider.value = position;
    if (number !== document.activeElement || number.value === "") number.value = shown;
    slider.setAttribute("aria-valuetext", name === "batch" && setting.batch === FULL ? text("full") : shown);
    write(`${name}-label`, name === "batch" && setting.batch === FULL ? `${text(name)}: ${text("full")}` : text(name));
    number.setAttribute("aria-label", text("valueOf", { name: text(name) }));
  }
  const chosen = { 0: "zero", 1: "nothing", 0.5: "half" }[setting.keep] ?? "keep";
  for (const radio of radios()) radio.checked = radio.value === chosen;
  showCode(setting);
  showCommand(commandOf(setting));
  const { keep, every } = setting;
  write("momentum-note", keep > 0 ? text(every > 1 ? "momentumNoteWindows" : "momentumNote", { keep }) : "");
}

/** @param {Setting} setting */
function showCode(setting) {
  const lines = codeOf(setting);
  const shown = lines.filter(({ part }) => part !== "setup");
  write("setup", lines.filter(({ part }) => part === "setup").map(({ text }) => text).join("\n")); // prettier-ignore
  const code = find("code", HTMLElement);
  if (code.textContent === shown.map(({ text }) => text).join("")) return;
  code.replaceChildren(...shown.map(({ text, part }) => make("span", { class: `line ${part}` }, text)));
}

/**
 * Show a command that wraps between its options.
 * @param {string} command
 */
function showCommand(command) {
  const code = find("command", HTMLElement);
  if (code.textContent === command) return;
  const options = command.split(/(?= -)/).map((option) => make("span", {}, option));
  code.replaceChildren(...options);
}

/**
 * Return all the code, for the clipboard.
 * @param {Setting} setting
 */
export function programOf(setting) {
  return codeOf(setting).map(({ text }) => `${text}\n`).join(""); // prettier-ignore
}

/**
 * Show the presets, and which of them the setting is.
 * @param {Preset | null} chosen
 * @param {Text} text
 */
export function showPresets(chosen, text) {
  for (const preset of /** @type {Preset[]} */ (Object.keys(PRESETS))) {
    const button = find(`preset-${preset}`, HTMLButtonElement);
    button.textContent = text(`preset_${preset}`);
    button.setAttribute("aria-pressed", String(preset === chosen));
  }
  write("about-preset", chosen ? text(`about_${chosen}`) : "");
}
