// The session of this page, and calls of the API with it. The session is in two halves: a cookie that scripts cannot read,
// and a key that only this origin can. Neither permits anything without the other.

const KEY = 'chatd-page-key';

/** A refusal of the daemon, or a connection that failed (`status` 0). */
export class CallError extends Error {
  constructor(status, problem) {
    super(problem.detail ?? 'the daemon does not answer');
    this.status = status;
    this.code = problem.code ?? '';
    this.hint = problem.hint ?? '';
  }
}

/** Exchanges the one-time code of a link for a session; the code leaves the address bar at once. */
export async function openLink() {
  const code = location.hash.slice(1);
  if (!/^[0-9a-f]{64}$/.test(code)) return;
  history.replaceState(null, '', location.pathname);
  const session = await call('/v1/web/sessions', { method: 'POST', body: { code } });
  localStorage.setItem(KEY, session.key);
}

/** Whether there is a session, as far as the page knows. */
export const hasSession = () => localStorage.getItem(KEY) !== null;

/** Forgets the session. */
export const forgetSession = () => localStorage.removeItem(KEY);

/** Ends the session. */
export async function signOut() {
  await call('/v1/web/sessions', { method: 'DELETE' });
  forgetSession();
}

/** Sends a request with the session. */
export async function request(path, { method = 'GET', body, headers = {}, signal } = {}) {
  const key = localStorage.getItem(KEY);
  const all = { ...headers };
  if (key) all['chat-page-key'] = key;
  if (body !== undefined) all['content-type'] = 'application/json';
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: all,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: 'no-store',
      credentials: 'same-origin',
      redirect: 'error',
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new CallError(0, {});
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  throw new CallError(response.status, problem);
}

/** Calls the API; gives the answer, or nothing where it has none. */
export async function call(path, options) {
  const response = await request(path, options);
  return response.status === 204 ? null : response.json();
}
