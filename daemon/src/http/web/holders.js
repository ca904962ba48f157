// The history of the rendezvous role: a time line of its holders, and the last changes in words.

import { byId, clockOf, colour, el, fullTime, nameOf, reasonOf, setText, span } from './dom.js';

/** Changes that are listed in words; the line has all. */
const LISTED = 6;

/** Narrowest part of the line that is drawn, in percent. */
const NARROWEST = 0.4;

export class Holders {
  #history = [];
  #range = null;

  constructor() {
    for (const button of document.querySelectorAll('[data-range]')) {
      button.addEventListener('click', () => {
        this.#range = Number(button.dataset.range);
        this.#draw();
      });
    }
  }

  /** Takes the history of the role, newest first. */
  set(history) {
    this.#history = history;
    this.#draw();
  }

  /** Draws the line anew: it ends now. */
  #draw() {
    const now = Date.now();
    const range = this.#range ?? this.#fitting(now);
    for (const button of document.querySelectorAll('[data-range]')) {
      button.setAttribute('aria-pressed', String(Number(button.dataset.range) === range));
    }
    const first = this.#history.length > 0 ? time(this.#history[this.#history.length - 1]) : now - 60_000;
    const from = range === 0 ? Math.min(first, now - 1000) : now - range;
    const parts = [];
    let end = now;
    for (const change of this.#history) {
      const start = Math.max(time(change), from);
      const width = (100 * (end - start)) / (now - from);
      if (width > 0) parts.unshift(part(change, Math.max(width, NARROWEST)));
      end = Math.min(end, start);
      if (time(change) <= from) break;
    }
    const before = (100 * (end - from)) / (now - from);
    if (before > 0.1) parts.unshift(sized(el('span', { class: 'unknown' }), before));
    byId('holders-line').replaceChildren(...parts);
    byId('holders-scale').replaceChildren(el('span', `${span(now - from)} ago`), el('span', 'now'));
    this.#list();
  }

  /** The shortest range that shows the last change; all, where all is shorter than that. */
  #fitting(now) {
    const oldest = this.#history[this.#history.length - 1];
    if (!oldest || now - time(oldest) < 3_600_000) return 0;
    const age = this.#history.length > 1 ? now - time(this.#history[0]) : Infinity;
    if (age < 3_600_000) return 3_600_000;
    return age < 86_400_000 ? 86_400_000 : 0;
  }

  #list() {
    const list = byId('holders');
    const wanted = this.#history.slice(0, LISTED);
    const key = wanted.map((change) => `${change.term}`).join(' ');
    if (list.dataset.key === key) return;
    list.dataset.key = key;
    list.replaceChildren(...wanted.map((change) => {
      const item = el(
        'li',
        el('time', { datetime: change.at, title: fullTime(change.at) }, clockOf(change.at)),
        colour(el('b', { class: 'name' }, nameOf(change.to)), change.to),
        ` ${roleWords(change)}`,
      );
      return item;
    }));
    if (wanted.length === 0) setText(list, '');
  }
}

/** Why a holder came, and how long the role was vacant. */
export function roleWords(change) {
  return change.reason === 'founded' ? reasonOf(change) : `${reasonOf(change)}, ${span(change.gap_ms)} vacant`;
}

const time = (change) => new Date(change.at).getTime();

function part(change, width) {
  const element = colour(el('span', { class: 'part', title: `${nameOf(change.to)}, since ${fullTime(change.at)}` }), change.to);
  if (width > 14) element.append(nameOf(change.to));
  return sized(element, width);
}

function sized(element, width) {
  element.style.flexGrow = width;
  return element;
}
