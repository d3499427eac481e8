/** Answers to the questions of the tests, by the scripts of the page. */

import { drawProblem, errorsAt, surfaceOf } from "../../gradlab/pages/explore/problem.js";
import { clamp, codeOf, commandOf, fromHash, modeOf, roundsOf, toHash, DEFAULT, NAMES, PRESETS } from "../../gradlab/pages/explore/setting.js";
import { emptyPath, train } from "../../gradlab/pages/explore/simulation.js";
import { closedForm } from "../../gradlab/pages/explore/theory.js";
import { verdictOf } from "../../gradlab/pages/explore/verdict.js";
import { StabilityMap, divergesWithin, drawGradients, keyOfMap } from "../../gradlab/pages/explore/stability.js";
import { ANSWERS, QUESTIONS, reasonFor } from "../../gradlab/pages/explore/explain.js";
import { drawMap } from "../../gradlab/pages/explore/pictures.js";
import { shortApart } from "../../gradlab/pages/shared/canvas.js";
import { STRINGS } from "../../gradlab/pages/explore/strings.js";

/** @typedef {import("../../gradlab/pages/explore/setting.js").Setting} Setting */

/**
 * Train on given batches, each a list of [x1, x2, y].
 * @param {{batches: number[][][], epoch: number, training: import("../../gradlab/pages/explore/simulation.js").Training}} given
 */
function trainOn({ batches, epoch, training }) {
  const samples = batches.flat();
  const column = (/** @type {number} */ nth) => Float64Array.from(samples, (sample) => sample[nth]);
  const starts = new Int32Array(batches.length + 1);
  batches.forEach((batch, t) => (starts[t + 1] = starts[t] + batch.length));
  const order = Int32Array.from(samples, (_, nth) => nth);
  const problem = { x1: column(0), x2: column(1), y: column(2), order, starts, epoch };
  return [...train(problem, training, batches.length, emptyPath(batches.length)).loss];
}

/** @param {Partial<Setting>} change */
function drawnBy(change) {
  const setting = { ...DEFAULT, ...change };
  const problem = drawProblem({ ...setting, rounds: roundsOf(setting) });
  return { setting, problem, surface: surfaceOf(problem, setting.curvature) };
}

/** @param {Partial<Setting>} change */
function pathOf(change) {
  const { setting, problem } = drawnBy(change);
  return { setting, problem, path: train(problem, setting, setting.steps, emptyPath(setting.steps)) };
}

/** What can be asked, by name. @type {Record<string, (given: any) => unknown>} */
const ANSWERERS = {
  trainOn,
  /** @param {Partial<Setting>} change */
  batches(change) {
    const { x1, x2, y, order, starts } = drawnBy(change).problem;
    const batch = (/** @type {number} */ t) => [...order.slice(starts[t], starts[t + 1])].map((i) => [x1[i], x2[i], y[i]]);
    return Array.from({ length: starts.length - 1 }, (_, t) => batch(t));
  },
  losses: (change) => [...pathOf(change).path.loss],
  path(change) {
    const { loss, w1, w2, diverged, due } = pathOf(change).path;
    return { losses: [...loss], w1: [...w1], w2: [...w2], diverged, due: [...due] };
  },
  closedForm(change) {
    const { setting, problem } = drawnBy(change);
    const surface = surfaceOf(problem, setting.curvature);
    const errors = errorsAt(surface, setting.w1, setting.w2);
    const losses = closedForm(surface, errors, setting, setting.steps, new Float64Array(setting.steps));
    return { losses: [...losses], errors, floor: surface.floor };
  },
  verdict(change) {
    const { problem, path } = pathOf(change);
    return verdictOf(path.loss, problem.epoch);
  },
  command: (change) => commandOf({ ...DEFAULT, ...change }),
  code: (change) => codeOf({ ...DEFAULT, ...change }),
  mode: (change) => modeOf({ ...DEFAULT, ...change }),
  clamp: ({ name, value }) => clamp(name, Number(value)),
  toHash: (change) => toHash({ ...DEFAULT, ...change }),
  fromHash,
  defaults: () => ({ setting: DEFAULT, names: NAMES, presets: PRESETS, questions: QUESTIONS, answers: ANSWERS }),
  strings: () => STRINGS,
  diverges(change) {
    const setting = { ...DEFAULT, ...change };
    return divergesWithin(drawGradients(setting, setting.seed), setting);
  },
  reason(change) {
    const { setting, problem, path } = pathOf(change);
    return reasonFor(setting, verdictOf(path.loss, problem.epoch));
  },
  shortApart,
  /** Return top and height of each row of the map, in shares of keep. @param {Partial<Setting>} change */
  rowsOfMap(change) {
    const map = new StabilityMap({ ...DEFAULT, ...change });
    map.counts.forEach((_, cell) => (map.counts[cell] = cell % 2)); // no cells of one shade
    const rows = /** @type {Record<string, number[]>} */ ({});
    const fillRect = (/** @type {number[]} */ ...[, y, , height]) => (rows[y] = [y, y + height].map((at) => (312 - at) / 300));
    const measureText = () => ({ width: 0 });
    const context = new Proxy({ fillRect, measureText }, { get: (known, name) => Reflect.get(known, name) ?? (() => {}), set: () => true });
    const picture = /** @type {any} */ ({ begin: () => context, width: 600, height: 344 });
    drawMap(picture, map, drawnBy(change).surface, "", /** @type {any} */ ({}));
    return Object.values(rows).reverse();
  },
  map(change) {
    const map = new StabilityMap({ ...DEFAULT, ...change });
    while (map.advance());
    return { counts: [...map.counts], key: keyOfMap(map.setting), progress: map.progress };
  },
};

/**
 * Return the answers as JSON. Numbers that are not finite become text.
 * @param {string} questions a list of [name, given]
 */
export function answers(questions) {
  const found = JSON.parse(questions).map((/** @type {[string, unknown]} */ [name, given]) => ANSWERERS[name](given));
  return JSON.stringify(found, (_, value) => (typeof value === "number" && !Number.isFinite(value) ? String(value) : value));
}
