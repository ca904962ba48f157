// The conversation: a window of the history that grows at both ends as one scrolls, and follows the newest message.

import { byId, count, el, setText, show } from './dom.js';
import { continues, dayElement, markHeld, messageElement, noteElement } from './message.js';
import { call } from './session.js';

/** Messages of one page. */
const PAGE = 100;

/** Maximum number of messages on the page; the history itself has no end. */
const SHOWN_MAX = 600;

/** Maximum number of own messages that are asked about at a time. */
const ASKED = 5;

/** Pixels from an end at which the next page is fetched. */
const NEAR = 400;

/** Pixels from the bottom that still count as the bottom. */
const AT_BOTTOM = 60;

export class Conversation {
  #log = byId('log');
  #scroll = byId('scroll');
  #newest = byId('newest');
  /** Id of a message to the message, its element and what was delivered of it. */
  #shown = new Map();
  #answered = new Map();
  /** What the window shows: the newest messages, messages around one, or those that were searched for. */
  #mode = 'live';
  #older = false;
  #newer = false;
  #loading = false;
  #turn = 0;
  #arrived = 0;
  #selected = null;

  /** `room` knows the own peer and the number of members; `onReply` receives a message to answer. */
  constructor(room, onReply) {
    this.room = room;
    this.onReply = onReply;
    this.#scroll.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    this.#newest.addEventListener('click', () => this.toNewest());
    byId('results-close').addEventListener('click', () => this.toNewest());
    this.#log.addEventListener('click', (event) => this.#clicked(event));
    this.#log.addEventListener('keydown', (event) => this.#key(event));
    new ResizeObserver(() => this.#follow && this.#toBottom()).observe(this.#scroll);
  }

  #follow = true;

  /** Loads the newest messages. */
  async load() {
    await this.#window('live', async () => {
      const page = await history({ limit: PAGE });
      return { messages: page.messages, older: page.more, newer: false };
    });
    this.#follow = true;
    this.#toBottom();
    this.#arrived = 0;
    this.#tellNewest();
  }

  /** The newest messages, from wherever the window is. */
  async toNewest() {
    if (this.#mode === 'live' && !this.#newer) {
      this.#follow = true;
      this.#toBottom();
      this.#arrived = 0;
      this.#tellNewest();
      return;
    }
    byId('words').value = '';
    await this.load();
  }

  /** Shows the messages that contain these words. */
  async search(words) {
    let found = 0;
    await this.#window('results', async () => {
      const page = await history({ q: words, limit: PAGE });
      found = page.messages.length;
      return { messages: page.messages, older: false, newer: false, more: page.more };
    });
    const number = count(found, 'message', 'messages');
    setText(byId('results-text'), found === PAGE ? `The last ${number} with “${words}”` : `${number} with “${words}”`);
    this.#toBottom();
  }

  /** Shows a message among those around it. */
  async showAround(id) {
    await this.#window('around', async () => {
      const half = PAGE / 2;
      const [before, that, after] = await Promise.all([
        history({ before: id, limit: half }),
        call(`/v1/messages/${id}`),
        history({ after: id, limit: half }),
      ]);
      return {
        messages: [...before.messages, that.message, ...after.messages],
        older: before.more,
        newer: after.more,
      };
    });
    if (!this.#newer) this.#mode = 'live';
    this.#select(this.#shown.get(id)?.element);
  }

  /** Shows a message that has just arrived. */
  arrive(message) {
    if (this.#shown.has(message.id)) return;
    const mine = message.from.id === this.room.me?.id;
    if (this.#mode !== 'live' || this.#newer) {
      if (!mine) this.#arrived += 1;
      this.#tellNewest();
      return;
    }
    this.#append([message]);
    this.#trim('start');
    if (this.#follow || mine) {
      this.#follow = true;
      this.#toBottom();
    } else {
      this.#arrived += 1;
    }
    this.#tellNewest();
  }

  /** Adds a quiet line behind the newest message. */
  note(time, text, kind = '') {
    if (this.#mode !== 'live' || this.#newer) return;
    this.#log.append(noteElement(time, text, kind));
    if (this.#follow) this.#toBottom();
  }

  /** Marks where one stopped to look. */
  markUnread() {
    this.#log.querySelector('.unread')?.remove();
    this.#log.append(el('div', { class: 'unread' }, el('span', 'new')));
  }

  /** More disks hold an own message. */
  delivered(id, copies, delivered) {
    const shown = this.#shown.get(id);
    // The answer to a send can come behind the event that says more.
    if (!shown || (shown.copies ?? -1) > copies) return;
    shown.copies = copies;
    const to = shown.message.to ?? [];
    shown.all = to.length > 0 ? delivered >= to.length : copies > 0 && copies >= this.room.members - 1;
    markHeld(shown.element, { copies, all: shown.all });
  }

  /** Asks how far the newest own messages have come, unless all have them. */
  async askDelivered() {
    const own = [...this.#shown.values()].filter(({ message }) => message.from.id === this.room.me?.id);
    for (const { message } of own.filter((shown) => !shown.all).slice(-ASKED)) {
      const { state } = await call(`/v1/messages/${message.id}`);
      const holders = new Set(state.held_by.map((peer) => peer.id));
      const to = (message.to ?? []).filter((peer) => holders.has(peer.id));
      this.delivered(message.id, state.copies, to.length);
    }
  }

  /** Moves the focus to the last message. */
  selectLast() {
    const messages = this.#log.querySelectorAll('.message');
    this.#select(messages[messages.length - 1]);
  }

  /** Replaces what is shown; a later request overtakes an earlier one. */
  async #window(mode, fetchPage) {
    const turn = ++this.#turn;
    this.#log.setAttribute('aria-busy', 'true');
    try {
      const page = await fetchPage();
      if (turn !== this.#turn) return;
      this.#mode = mode;
      this.#older = page.older;
      this.#newer = page.newer;
      this.#shown.clear();
      this.#log.replaceChildren();
      this.#append(page.messages);
      show(byId('beginning'), mode !== 'results' && !page.older);
      show(byId('results-bar'), mode === 'results');
      this.#tellNewest();
    } finally {
      if (turn === this.#turn) this.#log.removeAttribute('aria-busy');
    }
  }

  #append(messages) {
    let before = this.#edge('last');
    for (const message of messages) {
      if (this.#shown.has(message.id)) continue;
      this.#log.append(...this.#lines(before, message));
      before = message;
    }
  }

  #prepend(messages) {
    const first = this.#log.querySelector('.message');
    const parts = [];
    let before = null;
    for (const message of messages) {
      if (this.#shown.has(message.id)) continue;
      parts.push(...this.#lines(before, message));
      before = message;
    }
    const next = first && this.#shown.get(first.dataset.id)?.message;
    if (before && next && new Date(before.time).toDateString() === new Date(next.time).toDateString()) {
      this.#log.querySelector('.day')?.remove();
    }
    this.#log.prepend(...parts);
  }

  /** A message, with a line for its day where one begins. */
  #lines(before, message) {
    const element = messageElement(message, this.room, this.#answeredBy(message));
    element.classList.toggle('continued', continues(before, message));
    if (message.from.id === this.room.me?.id) markHeld(element, { copies: 0, all: false });
    if (this.#mode === 'results') {
      element.append(el('button', { type: 'button', class: 'around', tabindex: '-1' }, 'Show in context'));
    }
    this.#shown.set(message.id, { message, element });
    const sameDay = before && new Date(before.time).toDateString() === new Date(message.time).toDateString();
    return sameDay ? [element] : [dayElement(message.time), element];
  }

  /** The message that is answered; one that is not on the page is fetched once, and filled in when it comes. */
  #answeredBy(message) {
    const id = message.reply_to;
    if (!id) return null;
    const known = this.#shown.get(id)?.message ?? this.#answered.get(id);
    if (known === undefined) {
      this.#answered.set(id, null);
      call(`/v1/messages/${id}`).then(({ message: answered }) => {
        this.#answered.set(id, answered);
        for (const shown of this.#shown.values()) {
          if (shown.message.reply_to !== id) continue;
          const filled = messageElement(shown.message, this.room, answered).querySelector('blockquote');
          shown.element.querySelector('blockquote')?.replaceWith(filled);
        }
      }, () => {});
    }
    return known ?? null;
  }

  #edge(which) {
    const messages = this.#log.querySelectorAll('.message');
    const element = which === 'first' ? messages[0] : messages[messages.length - 1];
    return element ? this.#shown.get(element.dataset.id)?.message ?? null : null;
  }

  /** Removes what is too much at one end. */
  #trim(end) {
    const messages = [...this.#log.querySelectorAll('.message')];
    const over = messages.length - SHOWN_MAX;
    if (over <= 0) return;
    const gone = end === 'start' ? messages.slice(0, over) : messages.slice(-over);
    for (const element of gone) this.#shown.delete(element.dataset.id);
    if (end === 'start') {
      this.#older = true;
      while (this.#log.firstChild && this.#log.firstChild !== messages[over]) this.#log.firstChild.remove();
    } else {
      this.#newer = true;
      while (this.#log.lastChild && this.#log.lastChild !== messages[SHOWN_MAX - 1]) this.#log.lastChild.remove();
    }
  }

  #scrolled() {
    const box = this.#scroll;
    const below = box.scrollHeight - box.scrollTop - box.clientHeight;
    this.#follow = below < AT_BOTTOM && this.#mode === 'live' && !this.#newer;
    if (this.#follow && this.#arrived > 0) this.#arrived = 0;
    this.#tellNewest();
    if (box.scrollTop < NEAR && this.#older) this.#grow('start');
    else if (below < NEAR && this.#newer) this.#grow('end');
  }

  /** Fetches the next page at one end, and keeps what one looks at where it is. */
  async #grow(end) {
    const edge = this.#edge(end === 'start' ? 'first' : 'last');
    if (this.#loading || !edge) return;
    const turn = this.#turn;
    this.#loading = true;
    this.#log.setAttribute('aria-busy', 'true');
    try {
      const page = await history({ [end === 'start' ? 'before' : 'after']: edge.id, limit: PAGE });
      if (turn !== this.#turn) return;
      const height = this.#scroll.scrollHeight;
      if (end === 'start') {
        this.#older = page.more;
        this.#prepend(page.messages);
        this.#scroll.scrollTop += this.#scroll.scrollHeight - height;
        this.#trim('end');
        show(byId('beginning'), !page.more);
      } else {
        this.#newer = page.more;
        if (!page.more) this.#mode = 'live';
        this.#append(page.messages);
        const grown = this.#scroll.scrollHeight;
        this.#trim('start');
        this.#scroll.scrollTop -= grown - this.#scroll.scrollHeight;
      }
    } catch {
      // The next scroll tries again.
    } finally {
      this.#loading = false;
      if (turn === this.#turn) this.#log.removeAttribute('aria-busy');
    }
  }

  #toBottom() {
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
  }

  #tellNewest() {
    const away = this.#mode !== 'results' && (!this.#follow || this.#newer);
    show(this.#newest, away && (this.#arrived > 0 || this.#scroll.scrollHeight > 2 * this.#scroll.clientHeight));
    setText(this.#newest, this.#arrived > 0 ? `${count(this.#arrived, 'new message', 'new messages')} ↓` : 'Newest ↓');
  }

  #clicked(event) {
    const element = event.target.closest('.message');
    const shown = element && this.#shown.get(element.dataset.id);
    if (!shown) return;
    if (event.target.closest('.reply')) this.onReply(shown.message);
    else if (event.target.closest('.around')) this.showAround(shown.message.id);
  }

  #key(event) {
    const element = event.target.closest('.message');
    if (!element || event.ctrlKey || event.metaKey || event.altKey) return;
    const messages = [...this.#log.querySelectorAll('.message')];
    const at = messages.indexOf(element);
    if (event.key === 'ArrowUp') this.#select(messages[at - 1]);
    else if (event.key === 'ArrowDown' && messages[at + 1]) this.#select(messages[at + 1]);
    else if (event.key === 'ArrowDown' || event.key === 'Escape') byId('text').focus();
    else if (event.key === 'End') this.toNewest().then(() => this.selectLast());
    else if (event.key === 'Enter' && this.#mode === 'results') this.showAround(element.dataset.id);
    else if (event.key === 'r' || event.key === 'R') this.onReply(this.#shown.get(element.dataset.id).message);
    else return;
    event.preventDefault();
  }

  #select(element) {
    if (!element) return;
    this.#selected?.setAttribute('tabindex', '-1');
    element.setAttribute('tabindex', '0');
    this.#selected = element;
    element.focus();
    element.scrollIntoView({ block: 'nearest' });
  }
}

/** A page of the history. */
function history(query) {
  return call(`/v1/messages?${new URLSearchParams(query)}`);
}
