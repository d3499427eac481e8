/** The setting: every number that the page can change, its limits, and its forms in the URL, in code and as a command. */

/**
 * @typedef {{lr: number, keep: number, every: number, batch: number, noise: number, curvature: number, steps: number,
 *   seed: number, w1: number, w2: number}} Setting
 * @typedef {{from: number, to: number, values?: number[], log?: boolean, digits: number}} Limits
 *   values: the only ones allowed; digits: after the decimal point, or in all if log
 */

/** @type {Record<keyof Setting, Limits>} */
export const LIMITS = {
  lr: { from: 0.001, to: 2, log: true, digits: 3 },
  keep: { from: 0, to: 1, digits: 3 },
  every: { from: 1, to: 8, digits: 0 },
  batch: { from: 1, to: 16, values: [1, 2, 4, 8, 16], digits: 0 },
  noise: { from: 0, to: 2, digits: 2 },
  curvature: { from: 1, to: 32, digits: 1 },
  steps: { from: 50, to: 2000, values: [50, 100, 200, 500, 1000, 2000], digits: 0 },
  seed: { from: 0, to: 999, digits: 0 },
  w1: { from: -2.5, to: 4.5, digits: 2 },
  w2: { from: -3, to: 4, digits: 2 },
};

export const NAMES = /** @type {(keyof Setting)[]} */ (Object.keys(LIMITS));
export const FULL = 16; // the batch size that holds all samples

/** @type {Readonly<Setting>} */
export const DEFAULT = {
  lr: 0.02, keep: 1, every: 1, batch: 2, noise: 0.5, curvature: 8, steps: 200, seed: 1, w1: -1.5, w2: 1.5,
}; // prettier-ignore

/**
 * A preset changes these numbers; the others return to their defaults.
 * @type {Record<"forgotten" | "halving" | "accumulate" | "momentum" | "broken" | "edge", Partial<Setting>>}
 */
export const PRESETS = {
  forgotten: {},
  halving: { keep: 0.5 },
  accumulate: { keep: 0, every: 4 },
  momentum: { keep: 0.9, batch: FULL },
  broken: { keep: 0, batch: FULL, lr: 0.27 },
  edge: { keep: 0, batch: FULL, lr: 0.25 },
};

/**
 * Return the nearest value that is allowed; the default for what is not a number.
 * @param {keyof Setting} name
 * @param {number} value
 */
export function clamp(name, value) {
  const { from, to, values, log, digits } = LIMITS[name];
  if (Number.isNaN(value)) return DEFAULT[name];
  const inside = Math.min(Math.max(value, from), to);
  if (values) return values.reduce((best, each) => (Math.abs(each - inside) < Math.abs(best - inside) ? each : best));
  return Number(log ? inside.toPrecision(digits) : inside.toFixed(digits)) || 0; // no −0
}

/**
 * Return the passes over the samples in an epoch: as many as let the windows of an accumulation fit into it.
 * @param {Setting} setting
 */
export function roundsOf({ every, batch }) {
  return (FULL / batch) % every ? every : 1;
}

/**
 * Return the part of a URL after #: what differs from the default.
 * @param {Setting} setting
 * @param {Record<string, string>} more
 */
export function toHash(setting, more = {}) {
  const changed = NAMES.filter((name) => setting[name] !== DEFAULT[name]).map((name) => [name, String(setting[name])]);
  return String(new URLSearchParams([...changed, ...Object.entries(more)]));
}

/**
 * Return the setting of a URL. Unknown names are left out, and numbers beyond the limits are clamped.
 * @param {string} hash
 * @returns {Setting}
 */
export function fromHash(hash) {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const setting = { ...DEFAULT };
  for (const name of NAMES) {
    const text = given.get(name)?.trim();
    if (text) setting[name] = clamp(name, Number(text));
  }
  return setting;
}

/**
 * Return gradlab's word for the mode.
 * @param {{keep: number, every: number}} setting
 */
export function modeOf({ keep, every }) {
  if (every > 1) return keep ? `keep=${keep},every=${every}` : `accumulate:${every}`;
  if (keep === 0) return "zero_grad";
  if (keep === 1) return "no_zero_grad";
  return keep === 0.5 ? "halve_grad" : `decay:${keep}`;
}

/**
 * Return the command that trains the same.
 * @param {Setting} setting
 */
export function commandOf(setting) {
  const { lr, batch, steps, seed } = setting;
  const options = optionsOf(setting).map(([name, value]) => ` --set task_options.${name}=${value}`);
  return (
    `gradlab run --task two_weights -m ${modeOf(setting)} --lr ${lr} --batch-size ${batch} --steps ${steps}` +
    ` --seed ${seed}${options.join("")}`
  );
}

/**
 * Return the options of the task that differ from its defaults.
 * @param {Setting} setting
 * @returns {[string, number][]}
 */
function optionsOf(setting) {
  const { noise, curvature, w1, w2 } = setting;
  const all = Object.entries({ noise, curvature, w1, w2, rounds: roundsOf(setting) });
  return all.filter(([name, value]) => value !== { ...DEFAULT, rounds: 1 }[name]);
}

/**
 * A line of code. part: "setup" before the loop, "clear" for what happens to `.grad`, "loop" for the rest.
 * @typedef {{text: string, part: "setup" | "loop" | "clear"}} Line
 */

/**
 * Return the training as code that runs.
 * @param {Setting} setting
 * @returns {Line[]}
 */
export function codeOf(setting) {
  const { lr, every, batch, steps, seed } = setting;
  const options = [["batch_size", batch], ...optionsOf(setting)].map(([name, value]) => `, ${name}=${value}`);
  const setup = [
    "from itertools import chain, islice, repeat",
    "from gradlab import tasks",
    "from torch.nn.functional import mse_loss",
    "from torch.optim import SGD",
    `task = tasks.two_weights(${seed}${options.join("")})`,
    "model, losses = task.model, []",
    `batches = islice(chain.from_iterable(repeat(task.batches)), ${steps})`,
  ];
  const windows = every > 1;
  const inside = windows ? "        " : "    ";
  const loop = [
    `optimizer = SGD(model.parameters(), lr=${lr})`,
    windows ? "for step, (x, y) in enumerate(batches, start=1):" : "for x, y in batches:",
    "    loss = mse_loss(model(x), y)",
    windows ? `    (loss / ${lengthOfWindow(setting)}).backward()` : "    loss.backward()",
    ...(windows ? [`    if step % ${every} == 0${steps % every ? ` or step == ${steps}` : ""}:`] : []),
    `${inside}optimizer.step()`,
  ];
  return [
    ...setup.map((text) => ({ text, part: /** @type {const} */ ("setup") })),
    ...loop.map((text) => ({ text, part: /** @type {const} */ ("loop") })),
    { text: inside + clearingLine(setting.keep), part: "clear" },
    { text: "    losses.append(loss.item())", part: "loop" },
  ];
}

/**
 * Return the length of a window, as code. The last window is shorter if the steps end within it.
 * @param {Setting} setting
 */
function lengthOfWindow({ every, steps }) {
  const rest = steps % every;
  return rest ? `(${every} if step <= ${steps - rest} else ${rest})` : String(every);
}

/** @param {number} keep */
function clearingLine(keep) {
  if (keep === 0) return "optimizer.zero_grad()";
  if (keep === 1) return "# nothing: .grad stays as it is";
  return keep === 0.5 ? "model.weight.grad /= 2" : `model.weight.grad *= ${keep}`;
}
