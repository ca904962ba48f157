// The stream of events. It resumes behind the last event that was read, so a restart of the daemon loses and repeats none.

import { request } from './session.js';

/** Pauses between attempts, in milliseconds; the last one repeats. */
const PAUSES = [250, 500, 1000, 2000, 4000];

/** A stream without a byte for this long is dead: the daemon writes every 15 s. */
const SILENCE_MAX = 40_000;

/**
 * Reads events for ever. `on` has `event(envelope)`, `up(first)` when the stream is open, `down(error)` when it is not, and
 * `ended(error)` when there is no session any more, after which nothing is read.
 */
export async function follow(on) {
  let cursor = null;
  let opened = false;
  for (let failures = 0; ; failures += 1) {
    const watch = new Watch();
    try {
      const headers = { accept: 'text/event-stream' };
      if (cursor) headers['last-event-id'] = cursor;
      const response = await request('/v1/events', { headers, signal: watch.signal });
      for await (const block of blocks(response.body, watch)) {
        if (block.id) cursor = block.id;
        if (block.data) hand(on, block.data);
        else if (block.id && failures >= 0) {
          on.up(!opened);
          opened = true;
          failures = -1;
        }
      }
      on.down(null);
    } catch (error) {
      if (error.status === 401 || error.status === 403) {
        on.ended(error);
        return;
      }
      on.down(error);
    } finally {
      watch.end();
    }
    await pause(PAUSES[Math.min(Math.max(failures, 0), PAUSES.length - 1)]);
  }
}

/** Hands an event over; one that the page cannot show does not end the stream. */
function hand(on, data) {
  try {
    on.event(JSON.parse(data));
  } catch (error) {
    console.error(error);
  }
}

/** Aborts a request when nothing has come for too long. */
class Watch {
  #abort = new AbortController();
  #timer = null;

  constructor() {
    this.alive();
  }

  get signal() {
    return this.#abort.signal;
  }

  alive() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#abort.abort(), SILENCE_MAX);
  }

  end() {
    clearTimeout(this.#timer);
    this.#abort.abort();
  }
}

/** The blocks of server-sent events: `id` and `data`, as far as they are given. */
async function* blocks(body, watch) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    watch.alive();
    text += value;
    const parts = text.split('\n\n');
    text = parts.pop();
    for (const part of parts) yield parse(part);
  }
}

function parse(part) {
  const block = { id: null, data: '' };
  for (const line of part.split('\n')) {
    if (line.startsWith('id: ')) block.id = line.slice(4);
    if (line.startsWith('data: ')) block.data += line.slice(6);
  }
  return block;
}

/** Waits; a page that becomes visible or online tries at once. */
function pause(ms) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      removeEventListener('online', done);
      document.removeEventListener('visibilitychange', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    addEventListener('online', done);
    document.addEventListener('visibilitychange', done);
  });
}
