/** Explanations: why the loss does what it does, and the questions of the quiz. */

import { FULL } from "./setting.js";
import { sideOfEdge } from "./theory.js";

/**
 * @typedef {import("./setting.js").Setting} Setting
 * @typedef {import("./verdict.js").Verdict} Verdict
 * @typedef {import("./strings.js").Key} Key
 */

/**
 * Return the key of the reason. A window that holds all samples equally often has the gradient of full batches.
 * @param {Setting} setting
 * @param {Verdict} verdict
 * @returns {Key}
 */
export function reasonFor({ lr, keep, every, batch, noise, curvature }, verdict) {
  const side = sideOfEdge(lr * curvature, keep);
  if (side > 0) return "why_beyond";
  if ((batch * every) % FULL === 0) {
    if (side === 0) return keep === 1 ? "why_atEdgeKept" : "why_atEdge";
    return keep === 1 ? "why_forever" : "why_settles";
  }
  if (keep === 1) return "why_noiseGrows";
  if (side === 0) return "why_noiseAtEdge";
  if (verdict === "diverges" || verdict === "rises") return "why_noiseLarge";
  return noise === 0 ? "why_sameMinimum" : "why_noiseFloor";
}

/** @type {{id: "full" | "mini" | "half" | "stable", setting: Partial<Setting>, answer: Verdict}[]} */
export const QUESTIONS = [
  { id: "full", setting: { keep: 1, batch: FULL }, answer: "oscillates" },
  { id: "mini", setting: { lr: 0.04, keep: 1, batch: 4 }, answer: "rises" },
  { id: "half", setting: { keep: 0.5 }, answer: "falls" },
  { id: "stable", setting: { lr: 0.375, keep: 0.9, batch: FULL }, answer: "falls" },
];

/** @type {("falls" | "oscillates" | "rises" | "diverges")[]} */
export const ANSWERS = ["falls", "oscillates", "rises", "diverges"];
