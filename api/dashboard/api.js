// Requests to the daemon. All paths are relative to where the page is, so that a proxy may move it.

const ROOT = new URL('../', document.baseURI)
const DEADLINE = 20_000 // ms

/** The event of the window when the daemon no longer knows the session. */
export const SIGNED_OUT = 'zapvisor-signed-out'

/** What the daemon answered instead, in the words of its problem; `status` 0: no answer. */
export class ApiError extends Error {
  constructor(status, detail, type = '') {
    super(detail)
    this.status = status
    this.type = type
  }
}

/** The address of a path such as `/status`, with the query parameters that are not empty. */
export function address(path, query = {}) {
  const url = new URL(path.replace(/^\//, ''), ROOT)
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== '') url.searchParams.set(name, value)
  }
  return url
}

/** The same for a WebSocket. */
export function socketAddress(path, query) {
  const url = address(path, query)
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:'
  return url
}

/** One request; `{ body, headers }` of the answer, body null where there is none. Rejects with an
 * ApiError. */
export async function call(method, path, { query, body, deadline = DEADLINE } = {}) {
  let answer, text
  try {
    answer = await fetch(address(path, query), {
      method,
      credentials: 'same-origin',
      cache: 'no-store',
      signal: AbortSignal.timeout(deadline),
      headers: body === undefined ? {} : { 'content-type': 'application/json' },
      body: body === undefined ? undefined : JSON.stringify(body),
    })
    text = await answer.text()
  } catch (error) {
    throw new ApiError(0, error.message)
  }
  let parsed = null
  try {
    parsed = text ? JSON.parse(text) : null
  } catch {
    throw new ApiError(answer.status, `${method} ${path}: ${answer.status}, and no JSON`)
  }
  if (!answer.ok) {
    if (answer.status === 401) window.dispatchEvent(new Event(SIGNED_OUT))
    throw new ApiError(answer.status, parsed?.detail ?? answer.statusText, parsed?.type ?? '')
  }
  return { body: parsed, headers: answer.headers }
}

export const get = async (path, query) => (await call('GET', path, { query })).body
export const post = async (path, body, query) => (await call('POST', path, { body, query })).body

/** A page of a list, and the cursor of the next one, if there is one. */
export async function page(path, query) {
  const { body, headers } = await call('GET', path, { query })
  return { rows: body, next: headers.get('x-next-cursor') }
}

/** One segment of a path. */
export const segment = text => encodeURIComponent(text)
