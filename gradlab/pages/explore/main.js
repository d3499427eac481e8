/** The page: events change the setting, and one frame later everything that follows from it is drawn. */

import { Picture, coloursOf, pixelOf, short, shortApart, valueAtPixel } from "../shared/canvas.js";
import { copy, find, make, makeDraggable, write } from "../shared/elements.js";
import { makeChoices, makeControls, programOf, showPresets, showSetting } from "./controls.js";
import { reasonFor } from "./explain.js";
import {
  curveAxes, drawArrows, drawCurves, drawMap, drawNote, drawPath, drawScale, drawSurface, leavesAt, mapAxes, surfaceAxes,
} from "./pictures.js";
import { Quiz } from "./quiz.js";
import { Scene } from "./scene.js";
import { DEFAULT, FULL, LIMITS, NAMES, PRESETS, clamp, commandOf, fromHash, toHash } from "./setting.js";
import { StabilityMap, divergesOnFull, keyOfMap, positionOf, valueAt } from "./stability.js";
import { textOf } from "./strings.js";
import { edge } from "./theory.js";

/**
 * @typedef {import("./setting.js").Setting} Setting
 * @typedef {import("./strings.js").Key} Key
 * @typedef {import("./strings.js").Language} Language
 */

const QUIET = 200; // milliseconds without a change, after which URL, table and screen readers are updated
const SLICE = 6; // milliseconds of simulation for the map at a time
const SECONDS = 8; // that playing takes, at most
const ROWS_OF_TABLE = 20;

/** @type {Language} */
let language = languageOf(location.hash);
let setting = fromHash(location.hash);
let at = setting.steps; // the step that is shown
let hovered = -1; // the step under the pointer, shown instead
let playing = 0; // the animation frame of playing; 0 if not playing
let changed = { setting: true, step: true, map: true, language: true };
let frame = 0;
let quiet = 0; // timer
let colours = coloursOf(document.documentElement);

const scene = new Scene(setting);
let map = new StabilityMap(setting);
let mapKey = keyOfMap(setting);
const background = new Picture(document.createElement("canvas")); // the surface without the path
const surface = new Picture(find("surface", HTMLCanvasElement)).follow(() => refresh({ setting: true }));
const curve = new Picture(find("curve", HTMLCanvasElement)).follow(() => refresh({ setting: true }));
const mapPicture = new Picture(find("map", HTMLCanvasElement)).follow(() => refresh({ map: true }));
const scale = new Picture(find("scale", HTMLCanvasElement)).follow(() => refresh({ map: true }));
const quiz = new Quiz((change) => update({ ...DEFAULT, ...change }, true));

/**
 * Return a text of the page in its language.
 * @param {Key} key
 * @param {Record<string, string | number>} values
 */
function text(key, values = {}) {
  return textOf(language, key, values);
}

/**
 * Return the language that the URL asks for, else the browser's.
 * @param {string} hash
 * @returns {Language}
 */
function languageOf(hash) {
  const asked = new URLSearchParams(hash.replace(/^#/, "")).get("lang") ?? navigator.language;
  return asked.startsWith("zh") ? "zh" : "en";
}

/**
 * Draw within the next frame.
 * @param {Partial<typeof changed>} what
 */
function refresh(what) {
  Object.assign(changed, what);
  frame ||= requestAnimationFrame(draw);
}

/**
 * Change the setting. A step that is shown stays, the end stays the end.
 * @param {Partial<Setting>} change
 * @param {boolean} toEnd show the end
 */
function update(change, toEnd = false) {
  if (toEnd && playing) stop();
  const wasAtEnd = at >= setting.steps;
  setting = { ...setting, ...change };
  at = toEnd || wasAtEnd ? setting.steps : Math.min(at, setting.steps);
  if (keyOfMap(setting) !== mapKey) changed.map = true;
  refresh({ setting: true, step: true });
  clearTimeout(quiet);
  quiet = window.setTimeout(settle, QUIET);
}

/** Draw now, without waiting for the next frame. */
function drawNow() {
  cancelAnimationFrame(frame);
  draw();
}

/** Draw all that has changed. */
function draw() {
  frame = 0;
  const now = changed;
  changed = { setting: false, step: false, map: false, language: false };
  if (now.language) showLanguage();
  if (now.setting) {
    scene.compute(setting);
    showSetting(setting, text);
    showPresets(chosenPreset(), text);
    showVerdict();
    placeHandles();
    drawBackground();
  }
  if (now.setting || now.step) drawStep();
  if (now.map) restartMap();
}

/** Write everything in the language of the page. */
function showLanguage() {
  document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
  document.title = text("title");
  for (const element of document.querySelectorAll("[data-text], [data-hint], [data-label]")) {
    const { text: key, hint, label } = /** @type {HTMLElement} */ (element).dataset;
    if (key) element.textContent = text(/** @type {Key} */ (key));
    if (hint) element.setAttribute("title", text(/** @type {Key} */ (hint)));
    if (label) element.setAttribute("aria-label", text(/** @type {Key} */ (label)));
  }
  quiz.show(text);
  showTable();
}

/** Return the preset that the setting is, apart from the seed. */
function chosenPreset() {
  const presets = /** @type {(keyof typeof PRESETS)[]} */ (Object.keys(PRESETS));
  const isSame = (/** @type {Partial<Setting>} */ preset) =>
    NAMES.every((name) => name === "seed" || setting[name] === { ...DEFAULT, ...preset }[name]);
  return presets.find((preset) => isSame(PRESETS[preset])) ?? null;
}

/** Return verdict and reason as a sentence. */
function summary() {
  return text("summary", { verdict: text(scene.verdict), why: reason() });
}

function reason() {
  const { lr, keep, curvature } = setting;
  return text(reasonFor(setting, scene.verdict), shortApart({ a: lr * curvature, edge: edge(keep) }));
}

function showVerdict() {
  const { lr, keep, curvature, steps } = setting;
  write("verdict", text(scene.verdict));
  find("verdict", HTMLElement).className = scene.verdict;
  write("reason", reason());
  write("fact-a", short(lr * curvature));
  write("fact-edge", short(edge(keep)));
  write("fact-lr", keep === 1 ? "∞" : short(lr / (1 - keep)));
  const { diverged, loss } = scene.path;
  write("fact-loss", diverged >= 0 ? text("divergedAt", { step: diverged }) : short(loss[steps - 1]));
  find("key-cleared", HTMLElement).hidden = keep === 0;
  const isFull = setting.batch === FULL;
  write("key-loss", text(isFull ? "keyLoss" : "keyBatch"));
  find("key-loss", HTMLElement).classList.toggle("thin", !isFull);
  find("key-mean", HTMLElement).hidden = isFull;
  find("key-theory", HTMLElement).hidden = !isFull;
}

/** Draw the loss surface once, for all steps of a path. */
function drawBackground() {
  background.resize(surface.width, surface.height);
  drawSurface(background, scene.surface, colours);
}

/** Draw path, arrows and losses at the step that is shown. */
function drawStep() {
  const { steps, lr } = setting;
  const shown = hovered >= 0 && hovered < steps ? hovered : at;
  const { path } = scene;
  drawPath(surface, background.canvas, scene.surface, path, shown, colours);
  const factor = drawArrows(surface, path, shown, lr, colours);
  const leaves = factor > 1 ? -1 : leavesAt(surface, path);
  const note = leaves < 0 ? "" : text("outside", { step: leaves });
  drawNote(surface, factor > 1 ? text("enlarged", { factor: short(factor) }) : note, colours);
  const diverged = path.diverged >= 0 ? text("divergedAt", { step: path.diverged }) : "";
  drawCurves(curve, scene.curves(), shown, { axisStep: text("axisStep"), diverged }, colours);
  showReadout(shown);
}

/** @param {number} shown */
function showReadout(shown) {
  const { steps, lr } = setting;
  const { w1, w2, loss, fresh1, fresh2, grad1, grad2, due } = scene.path;
  const isEnd = shown >= steps;
  const pair = (/** @type {number} */ one, /** @type {number} */ other) => `(${short(one)}, ${short(other)})`;
  const position = find("position", HTMLInputElement);
  if (position.max !== String(steps)) position.max = String(steps);
  if (position.value !== String(shown)) position.value = String(shown);
  const where = isEnd ? text("atEnd", { steps }) : text("atStep", { step: shown, steps });
  write("at", where);
  position.setAttribute("aria-valuetext", where);
  write("play", text(playing ? "pause" : "play"));
  write("read-weights", pair(w1[shown], w2[shown]));
  write("read-loss", isEnd ? "–" : Number.isFinite(loss[shown]) ? short(loss[shown]) : text("notFinite"));
  write("read-fresh", isEnd ? "–" : pair(fresh1[shown], fresh2[shown]));
  write("read-grad", isEnd ? "–" : pair(grad1[shown], grad2[shown]));
  write("read-update", isEnd ? "–" : due[shown] ? pair(-lr * grad1[shown], -lr * grad2[shown]) : text("noUpdate"));
}

/** Move the handles to the start of the weights, and to lr and keep. */
function placeHandles() {
  const onSurface = surfaceAxes(surface);
  place("start", pixelOf(onSurface.x, setting.w1), pixelOf(onSurface.y, setting.w2));
  const onMap = mapAxes(mapPicture);
  place("map-handle", pixelOf(onMap.x, setting.lr), pixelOf(onMap.y, setting.keep));
  write("map-share", share());
}

/**
 * @param {string} id
 * @param {number} x
 * @param {number} y
 */
function place(id, x, y) {
  find(id, HTMLElement).style.transform = `translate(${x}px, ${y}px)`;
}

/** Return how many draws diverge at the setting. */
function share() {
  const { lr, keep, batch, curvature } = setting;
  if (batch === FULL) return text(divergesOnFull(lr, keep, curvature) ? "mapUnstable" : "mapStable");
  const count = keyOfMap(setting) === mapKey ? map.countAt(lr, keep) : -1;
  return count < 0 ? "" : text("mapShare", { count });
}

/** Draw the map, and begin to simulate it if the setting asks for another one. */
function restartMap() {
  const key = keyOfMap(setting);
  if (key !== mapKey) {
    map = new StabilityMap(setting);
    mapKey = key;
  }
  showMap();
}

function showMap() {
  const isFull = setting.batch === FULL;
  drawMap(mapPicture, map, scene.surface, text("edgeLine"), colours);
  drawScale(scale, colours);
  write("map-what", isFull ? text("mapFull") : text("mapMini", { steps: setting.steps }));
  write("scale-low", isFull ? text("mapFalls") : text("mapNone"));
  write("scale-high", isFull ? text("mapDiverges") : text("mapAll"));
  write("map-progress", map.progress < 1 ? text("mapProgress", { percent: Math.floor(100 * map.progress) }) : "");
  placeHandles();
}

/** Simulate the map in slices, between which the page answers, until it is done or out of date. */
function simulateMap() {
  const mine = map;
  let shown = performance.now();
  const slice = () => {
    if (mine !== map || quiet) return;
    const begin = performance.now();
    let more = true;
    while (more && performance.now() - begin < SLICE) more = mine.advance();
    if (!more || performance.now() - shown > 120) {
      shown = performance.now();
      showMap();
    }
    if (!more) describe();
    if (more) setTimeout(slice, 0);
  };
  slice();
}

/** Update URL, table, screen readers and map, after a pause in the changes. */
function settle() {
  quiet = 0;
  if (frame) drawNow(); // no frame yet, as in a tab in the background
  const asked = new URLSearchParams(location.hash.replace(/^#/, "")).get("lang");
  const hash = toHash(setting, asked || language !== languageOf("") ? { lang: language } : {});
  if (location.hash.replace(/^#/, "") !== hash) history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
  describe();
  showTable();
  simulateMap();
}

/** Say what the pictures show. */
function describe() {
  write("summary", summary());
  const { lr, keep, w1, w2 } = setting;
  label("surface", text("surfaceLabel", { summary: summary() }));
  label("curve", text("curveLabel", { summary: summary() }));
  label("map", text("mapLabel", { lr, keep, share: share() }));
  label("start", text("start", { w1: short(w1), w2: short(w2) }));
  label("map-handle", text("mapHandle", { lr, keep }));
}

/**
 * @param {string} id
 * @param {string} words
 */
function label(id, words) {
  find(id, HTMLElement).setAttribute("aria-label", words);
}

/** Write the table of the numbers, if it is open. */
function showTable() {
  if (!find("numbers", HTMLDetailsElement).open) return;
  const { steps } = setting;
  const { w1, w2, loss, fresh1, fresh2, grad1, grad2 } = scene.path;
  const stride = Math.ceil(steps / ROWS_OF_TABLE);
  write("table-caption", text("tableCaption", { stride, steps }));
  const head = [text("tableStep"), "w₁", "w₂", text("loss"), `${text("fresh")} 1`, `${text("fresh")} 2`, ".grad 1", ".grad 2"];
  find("table-head", HTMLElement).replaceChildren(make("tr", {}, ...head.map((each) => make("th", { scope: "col" }, each))));
  const rows = Array.from({ length: Math.ceil(steps / stride) }, (_, nth) => nth * stride);
  const columns = [w1, w2, loss, fresh1, fresh2, grad1, grad2];
  find("table-body", HTMLElement).replaceChildren(
    ...rows.map((t) =>
      make("tr", {}, make("th", { scope: "row" }, String(t)), ...columns.map((each) => make("td", {}, short(each[t])))),
    ),
  );
}

// Playing

function stop() {
  cancelAnimationFrame(playing);
  playing = 0;
  refresh({ step: true });
}

function play() {
  if (at >= setting.steps) at = 0;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const perSecond = Math.max(10, setting.steps / SECONDS);
  const [begin, from] = [performance.now(), at];
  /** @param {number} now */
  const next = (now) => {
    const seconds = Math.max(0, now - begin) / 1000;
    const passed = calm ? Math.floor(seconds) * Math.ceil(perSecond) : Math.floor(seconds * perSecond);
    at = Math.min(setting.steps, from + passed);
    playing = at < setting.steps ? requestAnimationFrame(next) : 0;
    refresh({ step: true });
  };
  playing = requestAnimationFrame(next);
}

/** @param {number} step */
function showStep(step) {
  if (playing) stop();
  at = Math.max(0, Math.min(setting.steps, step));
  refresh({ step: true });
}

// Events

function connectButtons() {
  find("play", HTMLElement).addEventListener("click", () => (playing ? stop() : play()));
  find("step", HTMLElement).addEventListener("click", () => showStep(at >= setting.steps ? 0 : at + 1));
  const position = find("position", HTMLInputElement);
  position.addEventListener("input", () => showStep(Number(position.value)));
  find("draw-again", HTMLElement).addEventListener("click", () => update({ seed: (setting.seed + 1) % (LIMITS.seed.to + 1) }));
  find("reset", HTMLElement).addEventListener("click", () => update({ ...DEFAULT }, true));
  find("language", HTMLElement).addEventListener("click", () => {
    language = language === "en" ? "zh" : "en";
    history.replaceState(null, "", `#${toHash(setting, { lang: language })}`);
    refresh({ setting: true, map: true, language: true });
    describe();
  });
  find("copy-code", HTMLElement).addEventListener("click", async () => copied(await copy(programOf(setting), "setup", "code")));
  find("copy-command", HTMLElement).addEventListener("click", async () => copied(await copy(commandOf(setting), "command")));
  find("numbers", HTMLElement).addEventListener("toggle", showTable);
}

/** @param {boolean} worked */
function copied(worked) {
  write("copied", text(worked ? "copied" : "copyFailed"));
  setTimeout(() => write("copied", ""), 2500);
}

function connectSurface() {
  makeDraggable(
    find("start", HTMLElement),
    find("surface-stage", HTMLElement),
    (px, py) => {
      const { x, y } = surfaceAxes(surface);
      update({ w1: clamp("w1", valueAtPixel(x, px)), w2: clamp("w2", valueAtPixel(y, py)) });
    },
    (right, up) => update({ w1: clamp("w1", setting.w1 + 0.1 * right), w2: clamp("w2", setting.w2 + 0.1 * up) }),
  );
}

function connectMap() {
  const stage = find("map-stage", HTMLElement);
  /** @param {number} px @param {number} py */
  const move = (px, py) => {
    const { x, y } = mapAxes(mapPicture);
    update({ lr: clamp("lr", valueAtPixel(x, px)), keep: clamp("keep", Number(valueAtPixel(y, py).toFixed(2))) });
  };
  makeDraggable(find("map-handle", HTMLElement), stage, move, (right, up) => {
    const lr = valueAt("lr", positionOf("lr", setting.lr) + right / 100);
    update({ lr: clamp("lr", lr), keep: clamp("keep", setting.keep + up / 100) });
  });
  find("map", HTMLElement).addEventListener("click", (event) => {
    const box = stage.getBoundingClientRect();
    move(event.clientX - box.left, event.clientY - box.top);
  });
}

function connectCurve() {
  const stage = find("curve", HTMLElement);
  /** @param {PointerEvent | MouseEvent} event */
  const stepAt = (event) => {
    const { x } = curveAxes(curve, scene.curves());
    const step = Math.round(valueAtPixel(x, event.clientX - stage.getBoundingClientRect().left));
    return Math.max(0, Math.min(setting.steps - 1, step));
  };
  stage.addEventListener("pointermove", (event) => {
    hovered = stepAt(event);
    refresh({ step: true });
  });
  stage.addEventListener("pointerleave", () => {
    hovered = -1;
    refresh({ step: true });
  });
  stage.addEventListener("click", (event) => showStep(stepAt(event)));
}

/** Take the colours of the page again when they change: dark mode and printing. */
function connectColours() {
  const again = () => {
    colours = coloursOf(document.documentElement);
    Object.assign(changed, { setting: true, map: true });
    drawNow();
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  matchMedia("print").addEventListener("change", again);
}

makeControls(update);
makeChoices(update, (preset) => update({ ...DEFAULT, ...PRESETS[preset], seed: setting.seed }, true));
connectButtons();
connectSurface();
connectMap();
connectCurve();
connectColours();
find("skip", HTMLElement).addEventListener("click", (event) => {
  event.preventDefault(); // the hash holds the setting
  find("pictures", HTMLElement).focus();
});
addEventListener("hashchange", () => {
  const asked = languageOf(location.hash);
  if (asked !== language) refresh({ language: true });
  language = asked;
  update(fromHash(location.hash), true);
});
draw();
describe();
settle();
