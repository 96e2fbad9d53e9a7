// What this browser remembers of whoever looks: taste, and nothing that is secret.

const PREFIX = 'zapvisor.'

/** A remembered choice, or null. */
export function remembered(name) {
  try {
    return localStorage.getItem(PREFIX + name)
  } catch {
    return null // storage is blocked: nothing is remembered
  }
}

/** Remember a choice, where the browser allows it. */
export function remember(name, value) {
  try {
    localStorage.setItem(PREFIX + name, value)
  } catch {
    // Storage is blocked: the choice holds until the page is closed.
  }
}
