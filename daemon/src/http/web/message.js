// One message as an element.

import { clockOf, colour, count, dayOf, el, fullTime, nameOf, printable, span } from './dom.js';

/** Messages of one author within this time share one name. */
const TOGETHER_MS = 5 * 60_000;

/** Characters of a quoted message. */
const QUOTED_CHARS = 160;

const LINK = /\bhttps?:\/\/[^\s<>"']+[^\s<>"'.,;:!?)\]}]/g;

/** An element for a message. `room` knows the own peer; `answered` is the message that it answers, if it is known. */
export function messageElement(message, room, answered) {
  const mine = message.from.id === room.me?.id;
  const direct = (message.to ?? []).length > 0;
  const author = colour(el('b', { class: 'name' }, mine ? 'you' : nameOf(message.from)), message.from);
  if (direct) author.append(el('span', { class: 'to' }, ` → ${recipients(message, room)}`));
  const body = el('div', { class: 'text' });
  const quoted = quoteOf(message, answered);
  if (quoted) body.append(quoted);
  appendText(body, message.text);
  const mark = el('span', { class: 'mark-held' });
  const reply = el('button', { type: 'button', class: 'reply', tabindex: '-1' }, 'Reply');
  const label = `${mine ? 'you' : nameOf(message.from)}${direct ? ` to ${recipients(message, room)}, direct` : ''}, ${clockOf(message.time)}`;
  const element = el(
    'article',
    { class: 'message', tabindex: '-1', 'aria-label': label, 'data-id': message.id },
    el('time', { datetime: message.time, title: timeTitle(message) }, clockOf(message.time)),
    author,
    body,
    mark,
    reply,
  );
  element.classList.toggle('mine', mine);
  element.classList.toggle('direct', direct);
  element.classList.toggle('mention', !mine && mentions(message.text, room.me));
  return element;
}

function timeTitle(message) {
  const off = message.clock_off_ms;
  const clock = off ? ` (the author's clock is ${span(Math.abs(off))} ${off > 0 ? 'ahead' : 'behind'})` : '';
  return fullTime(message.time) + clock;
}

/** Recipients of a direct message, in words. */
function recipients(message, room) {
  return message.to.map((peer) => (peer.id === room.me?.id ? 'you' : nameOf(peer))).join(', ');
}

/** Whether a text names a peer. */
function mentions(text, me) {
  if (!me?.name) return false;
  const at = `@${me.name}`.toLowerCase();
  return text.toLowerCase().split(/[\s,;:!?()]+/).some((word) => word === at || word === `${at}.`);
}

/** The message that is answered, in one line. */
function quoteOf(message, answered) {
  if (!message.reply_to) return null;
  if (!answered) return el('blockquote', 'an earlier message');
  const line = el('blockquote', colour(el('b', { class: 'name' }, nameOf(answered.from)), answered.from));
  line.append(` ${short(answered.text)}`);
  return line;
}

/** The start of a text, in one line. */
export function short(text) {
  const line = printable(text).replace(/\s+/g, ' ').trim();
  return line.length > QUOTED_CHARS ? `${line.slice(0, QUOTED_CHARS)}…` : line;
}

/** Appends a text: quoted lines as quotations, addresses of web pages as links, all else as it is. */
function appendText(body, text) {
  const lines = printable(text).split('\n');
  const quoted = lines.findIndex((line) => !line.startsWith('> '));
  const quotes = quoted < 0 ? lines.length : quoted;
  if (quotes > 0) {
    const quotation = el('blockquote');
    appendLinked(quotation, lines.slice(0, quotes).map((line) => line.slice(2)).join('\n'));
    body.append(quotation);
  }
  appendLinked(body, lines.slice(quotes).join('\n'));
}

function appendLinked(parent, text) {
  let end = 0;
  for (const found of text.matchAll(LINK)) {
    parent.append(text.slice(end, found.index));
    parent.append(el('a', { href: found[0], target: '_blank', rel: 'noopener noreferrer' }, found[0]));
    end = found.index + found[0].length;
  }
  parent.append(text.slice(end));
}

/** Shows on how many disks an own message is. */
export function markHeld(element, { copies, all }) {
  const mark = element.querySelector('.mark-held');
  const signs = all ? '✓✓' : copies > 0 ? `✓${copies}` : '✓';
  const words = copies > 0 ? `on this disk and on ${count(copies, 'other', 'others')}` : 'on this disk';
  mark.textContent = signs;
  mark.title = all ? `${words}: all recipients` : words;
}

/** A line for a day. */
export function dayElement(time) {
  return el('div', { class: 'day' }, el('span', dayOf(time)));
}

/** A quiet line: a change of the membership, a move of the role. */
export function noteElement(time, text, kind) {
  return el('p', { class: `note ${kind}` }, el('time', { datetime: time, title: fullTime(time) }, clockOf(time)), ` ${text}`);
}

/** Whether a message continues what its author said just before. */
export function continues(before, message) {
  return Boolean(before)
    && before.from.id === message.from.id
    && String((before.to ?? []).map((peer) => peer.id)) === String((message.to ?? []).map((peer) => peer.id))
    && Math.abs(new Date(message.time) - new Date(before.time)) < TOGETHER_MS
    && new Date(message.time).toDateString() === new Date(before.time).toDateString();
}
