// The room in the browser: opens the session, follows the stream of events, and hands each part of the page what it shows.

import { Composer } from './composer.js';
import { Conversation } from './conversation.js';
import { byId, nameOf, printable, setText, show } from './dom.js';
import { Holders, roleWords } from './holders.js';
import { Mesh } from './mesh.js';
import { drawHead, drawKnocks, drawMembers, drawWhy } from './panels.js';
import { call, forgetSession, hasSession, openLink, signOut } from './session.js';
import { follow } from './stream.js';
import { wireViews } from './views.js';

/** How often the figures of the paths are read while the page is looked at, in milliseconds: no event brings them. */
const FIGURES_MS = 3000;

/** How soon after a send the page asks how far it has come, in milliseconds. */
const ASK_AFTER_MS = 300;

/** What all parts of the page know of the room. */
const room = { me: null, members: 1, peers: [], links: [], status: null, rendezvous: null, takesReplies: false };

const mesh = new Mesh();
const holders = new Holders();
let conversation;
let composer;
let unread = 0;
let started = false;
/** Why the page is closed; the first reason is the one that is shown. */
let closed = null;
/** Events that came while the page was being filled. */
let early = [];

/** Opens the page, by the link in the address or with the session that there is. */
async function open() {
  try {
    await openLink();
  } catch (error) {
    close(error.status === 401 ? 'This link is wrong, was used already, or is too old.' : error.message);
    return;
  }
  if (!hasSession()) {
    close('Only a browser that opened a link of this daemon can read and write the room.');
    return;
  }
  if (started) {
    location.reload();
    return;
  }
  started = true;
  start();
}

function start() {
  closed = null;
  for (const part of ['open', 'search', 'sign-out']) show(byId(part), true);
  show(byId('views'), true);
  show(byId('closed'), false);
  conversation = new Conversation(room, (message) => composer.answer(message));
  composer = new Composer(room, {
    posted: (sent) => {
      conversation.arrive(sent.message);
      conversation.delivered(sent.message.id, sent.state.copies, 0);
      setTimeout(() => conversation.askDelivered().catch(() => {}), ASK_AFTER_MS);
    },
    up: () => conversation.selectLast(),
  });
  wireViews(conversation);
  follow({ event: (envelope) => (early ? early.push(envelope) : take(envelope)), up, down, ended: () => close('The session of this page has ended.') });
  setInterval(() => !document.hidden && !closed && byId('link-state').hidden && figures(), FIGURES_MS);
  document.addEventListener('visibilitychange', () => {
    if (document.hidden || closed) return;
    unread = 0;
    title();
    figures();
  });
}

/** Nothing of the room stays on a page without a session. */
function close(why) {
  closed ??= why;
  forgetSession();
  setText(byId('closed-text'), closed);
  for (const part of ['open', 'search', 'sign-out', 'views', 'link-state']) show(byId(part), false);
  for (const part of ['log', 'outbox', 'members', 'ranking', 'holders', 'mesh-nodes', 'mesh-lines']) byId(part).replaceChildren();
  setText(byId('summary'), '');
  show(byId('closed'), true);
  document.title = 'chat';
}

/** The stream is open. The first time, and after a gap, the page is filled; later it goes on behind the last event. */
async function up(first) {
  show(byId('link-state'), false);
  try {
    await Promise.all([figures(), first ? conversation.load() : null]);
    const waiting = early ?? [];
    early = null;
    waiting.forEach(take);
    composer.resume();
    await answerable();
  } catch {
    // The stream reports it.
  }
}

function down(error) {
  const why = error?.status > 0 ? error.message : 'the daemon does not answer';
  setText(byId('link-state'), `${why[0].toUpperCase()}${why.slice(1)}: the page goes on when it is back.`);
  show(byId('link-state'), true);
}

/** Whether the daemon takes replies: older ones have quotations instead. */
async function answerable() {
  if (room.takesReplies) return;
  const api = await call('/v1/openapi.json');
  room.takesReplies = Boolean(api.components?.schemas?.SendRequest?.properties?.reply_to);
}

/** Reads what no event brings, or not all of it. */
async function figures() {
  try {
    const [status, peers, rendezvous, knocks] = await Promise.all([
      call('/v1/status'),
      call('/v1/peers'),
      call('/v1/rendezvous'),
      call('/v1/knocks'),
    ]);
    Object.assign(room, { status, rendezvous, peers: peers.peers, links: peers.links ?? [], me: status.peer, members: status.members });
    drawKnocks(knocks.knocks, answerKnock);
    draw();
    await conversation.askDelivered();
  } catch (error) {
    if (error.status === 401) close('The session of this page has ended.');
    else if (error.status !== 0) down(error);
  }
}

function draw() {
  const { status, rendezvous, peers } = room;
  if (!status) return;
  drawHead(status, rendezvous.holder);
  drawMembers(peers, rendezvous.holder, (peer) => composer.writeTo(peer));
  mesh.draw(peers, rendezvous.holder, room.links);
  holders.set(rendezvous.history);
  drawWhy(rendezvous);
  title();
}

/** Takes an event of the stream. */
function take(envelope) {
  const { at } = envelope;
  switch (envelope.type) {
    case 'message':
      arrived(envelope.message);
      break;
    case 'peer': {
      const known = room.peers.findIndex((peer) => peer.id === envelope.peer.id);
      if (known >= 0) room.peers[known] = envelope.peer;
      draw();
      break;
    }
    case 'rendezvous':
      roleMoved(at, envelope.change);
      break;
    case 'membership':
      conversation.note(at, membershipWords(envelope), 'membership');
      figures();
      break;
    case 'delivery':
      conversation.delivered(envelope.message, envelope.copies, envelope.delivered.length);
      break;
    case 'knock':
      figures();
      break;
    case 'fork':
      conversation.note(at, `the data of ${nameOf(envelope.peer)} went back to an older copy; what was written after it is kept`, 'membership');
      break;
    case 'gap':
      conversation.load().catch(() => {});
      figures();
      break;
    default:
  }
}

function arrived(message) {
  mesh.travel(message, room.me);
  const mine = message.from.id === room.me?.id;
  if (!mine && document.hidden) {
    if (unread === 0) conversation.markUnread();
    unread += 1;
    title();
  }
  conversation.arrive(message);
}

function roleMoved(at, change) {
  if (room.rendezvous) {
    room.rendezvous.holder = change.to;
    if (room.rendezvous.history[0]?.term !== change.term) room.rendezvous.history.unshift(change);
    draw();
  }
  const who = change.to.id === room.me?.id ? 'you hold' : `${nameOf(change.to)} holds`;
  conversation.note(at, `${who} the room now: ${roleWords(change)}`, 'role');
  figures();
}

function membershipWords({ action, peer, by, was }) {
  const [who, author] = [nameOf(peer), nameOf(by)];
  switch (action) {
    case 'founded': return `${who} founded the room`;
    case 'admitted': return `${who} joined`;
    case 'left': return `${who} left`;
    case 'removed': return `${who} was removed by ${author}`;
    case 'renamed': return `${was ? printable(was) : peer.tag} is now called ${who}`;
    case 'keys': return `${who} has new keys for direct messages: its data was lost or replaced`;
    case 'role': return `${author} changed the role of ${who}`;
    default: return `${who}: ${printable(action)}`;
  }
}

async function answerKnock(knock, admit) {
  const box = document.querySelector(`[data-knock="${CSS.escape(String(knock.id))}"]`);
  for (const button of box?.querySelectorAll('button') ?? []) button.disabled = true;
  try {
    await call(`/v1/knocks/${knock.id}`, { method: 'POST', body: { admit } });
    conversation.note(new Date().toISOString(), `${printable(knock.name)} was ${admit ? 'admitted' : 'denied admission'}`, 'membership');
  } catch (error) {
    conversation.note(new Date().toISOString(), `${printable(knock.name)}: ${error.message}`, 'role');
  }
  delete byId('knocks').dataset.key;
  figures();
}

function title() {
  const name = room.status ? printable(room.status.room.name) : '';
  document.title = `${unread > 0 ? `(${unread}) ` : ''}${name || 'chat'}`;
}

byId('sign-out').addEventListener('click', async () => {
  closed = 'You signed out of this page.';
  try {
    await signOut();
  } catch (error) {
    if (error.status === 0) {
      closed = null;
      down(error);
      return;
    }
  }
  close(closed);
});
// A link that is opened in this tab changes only what is behind '#'.
addEventListener('hashchange', () => location.hash.length > 1 && open());
open();
