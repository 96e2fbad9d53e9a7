// Elements from plain calls, and a way to bring what is shown up to date without losing focus,
// selection or scroll positions. Texts only ever become text nodes.

const SVG = 'http://www.w3.org/2000/svg'
const HANDLER = /^on[a-z]+$/
const controlled = new WeakSet() // fields whose value the views decide; in others it is the reader's

/** An HTML element. `props`: attributes; `onclick` and the like are functions; null and false are
 * left out, true is an empty attribute. Children: nodes, text, numbers, lists; null is nothing. */
export function h(tag, props = {}, ...children) {
  return build(document.createElement(tag), props, children)
}

/** The same for SVG. */
export function s(tag, props = {}, ...children) {
  return build(document.createElementNS(SVG, tag), props, children)
}

function build(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue
    if (HANDLER.test(name)) element[name] = value
    else if (name === 'value') {
      element.value = value
      controlled.add(element)
    }
    else element.setAttribute(name, value === true ? '' : String(value))
  }
  append(element, children)
  return element
}

function append(element, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue
    if (Array.isArray(child)) append(element, child)
    else element.append(child instanceof Node ? child : String(child))
  }
}

/** Make the children of `target` look like `wanted` (a node or a list), keeping those that fit. */
export function patch(target, wanted) {
  const holder = document.createDocumentFragment()
  append(holder, [wanted])
  patchChildren(target, holder)
}

const HANDLERS = ['onclick', 'onchange', 'oninput', 'onsubmit', 'onkeydown', 'ontoggle', 'onerror',
  'onpointermove', 'onpointerleave', 'onload']

function patchChildren(target, wanted) {
  const keyed = new Map()
  for (const child of target.children) {
    const key = child.getAttribute('data-key')
    if (key !== null) keyed.set(key, child)
  }
  let current = target.firstChild
  for (const next of [...wanted.childNodes]) {
    const key = next.nodeType === Node.ELEMENT_NODE ? next.getAttribute('data-key') : null
    let match = null
    if (key !== null) match = keyed.get(key) ?? null
    else if (current && alike(current, next)) match = current
    if (match === null || !alike(match, next)) {
      target.insertBefore(next, current)
      continue
    }
    if (match === current) current = current.nextSibling
    else move(target, match, current)
    patchNode(match, next)
  }
  while (current) {
    const following = current.nextSibling
    current.remove()
    current = following
  }
}

/** Without losing the focus inside of it, where the browser can do that. */
function move(target, child, before) {
  if (target.moveBefore) target.moveBefore(child, before)
  else target.insertBefore(child, before)
}

function alike(one, other) {
  if (one.nodeType !== other.nodeType || one.nodeName !== other.nodeName) return false
  if (one.nodeType !== Node.ELEMENT_NODE) return true
  // What somebody has opened must not become something else that then is open, too.
  if (one.nodeName === 'DETAILS' && one.className !== other.className) return false
  return one.getAttribute('data-key') === other.getAttribute('data-key')
}

function patchNode(old, next) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== next.data) old.data = next.data
    return
  }
  if (old.hasAttribute('data-own')) return // it changes by itself
  for (const { name, value } of [...next.attributes]) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value)
  }
  for (const { name } of [...old.attributes]) {
    const kept = (name === 'open' && old.nodeName === 'DETAILS') || (name === 'tabindex' && old.nodeName === 'H1')
    if (!next.hasAttribute(name) && !kept) old.removeAttribute(name)
  }
  for (const name of HANDLERS) if (old[name] !== next[name]) old[name] = next[name]
  if (old.nodeName === 'TEXTAREA') return
  if (old.nodeName === 'INPUT') {
    if (old.type === 'checkbox') old.checked = next.checked
    else if (controlled.has(next) && document.activeElement !== old && old.value !== next.value) old.value = next.value
    return
  }
  patchChildren(old, next)
  if (old.nodeName === 'SELECT' && document.activeElement !== old) old.value = next.value
}
