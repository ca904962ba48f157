// Writing: a line that grows, names that complete, and messages that wait here while the daemon is away.

import { byId, el, nameOf, printable, setText, show } from './dom.js';
import { short } from './message.js';
import { call } from './session.js';

/** Where a draft is kept, so that a reload loses nothing. */
const DRAFT = 'chatd-draft';

/** `@name` words at the start of a text, and the text behind them. */
const RECIPIENTS = /^((?:@[^\s@]+\s+)+)(\S[\s\S]*)$/;

export class Composer {
  #text = byId('text');
  #answers = null;
  /** Messages that were not taken yet: the oldest first. */
  #waiting = [];
  #sending = false;

  /** `room` knows the members and whether the daemon takes replies; `on` has `posted(sent)` and `up()`. */
  constructor(room, on) {
    this.room = room;
    this.on = on;
    byId('composer').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#text.addEventListener('input', () => this.#changed());
    this.#text.addEventListener('keydown', (event) => this.#key(event));
    byId('answered-cancel').addEventListener('click', () => this.answer(null));
    this.#text.value = sessionStorage.getItem(DRAFT) ?? '';
    this.#changed();
  }

  /** The next message answers this one. */
  answer(message) {
    this.#answers = message;
    show(byId('answered'), message !== null);
    if (!message) return;
    setText(byId('answered-text'), `Reply to ${nameOf(message.from)}: ${short(message.text)}`);
    const others = [message.from, ...(message.to ?? [])].filter((peer) => peer.id !== this.room.me?.id);
    if ((message.to ?? []).length > 0 && others.length > 0 && !RECIPIENTS.test(`${this.#text.value}x`)) {
      this.#text.value = `${others.map((peer) => `@${peer.name} `).join('')}${this.#text.value}`;
      this.#changed();
    }
    this.#text.focus();
  }

  /** Begins a message to one member. */
  writeTo(peer) {
    this.#text.value = `@${peer.name} ${this.#text.value.replace(/^(@\S+\s+)+/, '')}`;
    this.#changed();
    this.#text.focus();
  }

  /** The daemon answers again: what waits is sent. */
  resume() {
    this.#sendNext();
  }

  #submit() {
    const { to, text } = this.#parsed();
    if (text.trim() === '') return;
    const answers = this.#answers;
    const body = { text };
    if (to.length > 0) body.to = to;
    if (answers && this.room.takesReplies) body.reply_to = answers.id;
    else if (answers) body.text = `> ${answers.from.name}: ${short(answers.text)}\n${text}`;
    const element = el('p', { class: 'waiting' }, printable(body.text), el('span', { class: 'mark-held', title: 'waits for the daemon' }, '…'));
    byId('outbox').append(element);
    this.#waiting.push({ body, key: crypto.randomUUID(), element, typed: this.#text.value });
    this.#text.value = '';
    setText(byId('refusal'), '');
    this.answer(null);
    this.#changed();
    this.#sendNext();
  }

  /** Sends what waits, in order. The same key makes a message post once, however often it is sent. */
  async #sendNext() {
    const next = this.#waiting[0];
    if (!next || this.#sending) return;
    this.#sending = true;
    let taken = true;
    try {
      const sent = await call('/v1/messages', {
        method: 'POST',
        body: next.body,
        headers: { 'idempotency-key': next.key },
      });
      this.on.posted(sent);
    } catch (error) {
      const later = error.status === 0 || error.status === 429 || error.status >= 500 || error.status === 401;
      taken = !later;
      if (later) next.element.classList.add('late');
      else this.#refused(next, error);
    } finally {
      this.#sending = false;
    }
    if (!taken) {
      setTimeout(() => this.#sendNext(), 2000);
      return;
    }
    next.element.remove();
    this.#waiting.shift();
    this.#sendNext();
  }

  /** Puts a refused text back where it can be changed. */
  #refused(message, error) {
    setText(byId('refusal'), error.hint ? `${error.message}: ${error.hint}` : error.message);
    if (this.#text.value === '') this.#text.value = message.typed;
    this.#changed();
  }

  #parsed() {
    const parts = RECIPIENTS.exec(this.#text.value);
    if (!parts) return { to: [], text: this.#text.value.trim() };
    return { to: parts[1].trim().split(/\s+/).map((word) => word.slice(1)), text: parts[2].trim() };
  }

  #changed() {
    const value = this.#text.value;
    const parts = /^((?:@[^\s@]+\s+)+)/.exec(value);
    const to = parts ? parts[1].trim().split(/\s+/).join(', ') : '';
    setText(byId('to'), to ? `Only to ${printable(to)}` : 'To everyone');
    byId('composer').classList.toggle('direct', Boolean(to));
    if (value) sessionStorage.setItem(DRAFT, value);
    else sessionStorage.removeItem(DRAFT);
    this.#text.style.height = 'auto';
    // The border is not part of the content's height.
    const height = this.#text.scrollHeight + 2;
    this.#text.style.height = `${Math.min(height, 200)}px`;
    this.#text.classList.toggle('long', height > 200);
  }

  #key(event) {
    if (event.isComposing) return;
    if (event.key === 'Enter' && !event.shiftKey && !event.altKey && !event.ctrlKey) {
      event.preventDefault();
      this.#submit();
    } else if (event.key === 'Tab' && !event.shiftKey && this.#complete()) {
      event.preventDefault();
    } else if (event.key === 'ArrowUp' && this.#text.value === '') {
      event.preventDefault();
      this.on.up();
    } else if (event.key === 'Escape' && this.#answers) {
      this.answer(null);
    }
  }

  /** Completes the `@name` before the cursor; says whether there was one. */
  #complete() {
    const at = this.#text.selectionStart;
    const word = /(^|\s)@(\S*)$/.exec(this.#text.value.slice(0, at));
    if (!word) return false;
    const start = word[2].toLowerCase();
    const names = this.room.peers.filter((peer) => !peer.me).map((peer) => peer.name);
    const fits = names.filter((name) => name.toLowerCase().startsWith(start));
    if (fits.length === 0) return false;
    const common = fits.reduce((one, two) => {
      let length = 0;
      while (length < one.length && one[length].toLowerCase() === two[length]?.toLowerCase()) length += 1;
      return one.slice(0, length);
    });
    const whole = fits.length === 1 ? `${common} ` : common;
    this.#text.setRangeText(whole, at - word[2].length, at, 'end');
    this.#changed();
    return true;
  }
}
