/** The quiz: guess what the loss does, then look. */

import { find, make, write } from "../shared/elements.js";
import { ANSWERS, QUESTIONS } from "./explain.js";

/**
 * @typedef {import("./setting.js").Setting} Setting
 * @typedef {import("./controls.js").Text} Text
 * @typedef {(typeof QUESTIONS)[number]} Question
 */

/** The guesses so far, by question. */
export class Quiz {
  /** @param {(setting: Partial<Setting>) => void} reveal shows a setting in the pictures */
  constructor(reveal) {
    this.reveal = reveal;
    this.guesses = /** @type {Map<string, string>} */ (new Map());
  }

  /**
   * Make the questions.
   * @param {Text} text
   */
  show(text) {
    find("questions", HTMLElement).replaceChildren(...QUESTIONS.map((question) => this.questionOf(question, text)));
    this.showScore(text);
  }

  /**
   * @param {Question} question
   * @param {Text} text
   */
  questionOf(question, text) {
    const { id } = question;
    const result = make("p", { id: `result-${id}`, class: "result", role: "status" });
    const options = ANSWERS.map((answer) => {
      const button = make("button", { type: "button", id: `guess-${id}-${answer}` }, text(`option_${answer}`));
      button.addEventListener("click", () => {
        if (!this.guesses.has(id)) this.guesses.set(id, answer); // the first guess counts
        this.reveal(question.setting);
        this.showResult(question, text);
      });
      return button;
    });
    const asked = make("p", { id: `question-${id}` }, text(`question_${id}`));
    const group = make("div", { class: "chips", role: "group", "aria-labelledby": `question-${id}` }, ...options);
    const item = make("li", {}, asked, group, result);
    if (this.guesses.has(id)) queueMicrotask(() => this.showResult(question, text));
    return item;
  }

  /**
   * @param {Question} question
   * @param {Text} text
   */
  showResult({ id, answer }, text) {
    const guess = this.guesses.get(id);
    for (const each of ANSWERS) {
      const button = find(`guess-${id}-${each}`, HTMLButtonElement);
      button.setAttribute("aria-pressed", String(each === guess));
      button.classList.toggle("right", each === answer);
      button.classList.toggle("wrong", each === guess && guess !== answer);
    }
    const word = text(guess === answer ? "right" : "wrong");
    const result = find(`result-${id}`, HTMLElement);
    result.replaceChildren(make("strong", {}, word), ` ${text(`answer_${id}`)} `, make("span", { class: "hint" }, text("shown")));
    this.showScore(text);
  }

  /** @param {Text} text */
  showScore(text) {
    const right = QUESTIONS.filter(({ id, answer }) => this.guesses.get(id) === answer).length;
    write("score", this.guesses.size ? text("score", { right, asked: this.guesses.size }) : "");
  }
}
