// The pieces that several views are made of.

import { h, patch } from './dom.js'
import { exact, moment, NOTHING } from './format.js'
import { has, t } from './i18n.js'
import { icon } from './icons.js'

/** How bad each state is. */
export const TONES = {
  online: 'good', syncing: 'busy', connecting: 'busy', pairing: 'busy', stopped: 'idle',
  backoff: 'warn', parked: 'bad', conflict: 'bad', logged_out: 'bad', banned: 'bad',
}
const ORDER = ['banned', 'logged_out', 'conflict', 'parked', 'backoff', 'pairing', 'connecting', 'syncing', 'online', 'stopped']

/** States from what needs somebody most to what needs nobody. */
export const byUrgency = (one, other) => ORDER.indexOf(one) - ORDER.indexOf(other)

/** A state as colour, picture and word. */
export const state = name =>
  h('span', { class: `state ${TONES[name] ?? 'idle'}`, 'data-state': name }, icon(name), word('state', name))

/** The word for a value of the API; the value itself where there is none. */
export const word = (group, value) =>
  value === null || value === undefined ? NOTHING : has(`${group}.${value}`) ? t(`${group}.${value}`) : String(value)

export const badge = (text, tone = 'idle') => h('span', { class: `badge ${tone}` }, text)

/** A point in time; all of it as a tool tip. */
export const when = (at, text = moment(at)) =>
  at ? h('time', { datetime: at, title: exact(at) }, text) : h('span', {}, NOTHING)

/** What the daemon says in its own (English) words. */
export const quoted = (text, attributes = {}) => h('span', { lang: 'en', ...attributes }, text)

/** A conversation by its title; its address says nothing once the person was forgotten. */
export const called = ({ title, shown, chat }) => title === null && chat.endsWith('@removed') ? t('person.forgotten') : shown

export const empty = text => h('p', { class: 'empty' }, text)

export const loading = () => h('p', { class: 'empty' }, t('app.loading'))

/** Why something could not be shown. */
export function problem(error, again = null) {
  return h('div', { class: 'notice bad', role: 'alert' },
    h('p', {}, h('strong', {}, error.status === 0 ? t('problem.unreachable') : t('problem.refused')), ' ',
      error.status === 0 ? null : quoted(error.message)),
    again && h('button', { type: 'button', onclick: again }, t('action.retry')))
}

/** A section with a heading; `extra` stands at the right of it. */
export function section(id, title, extra, ...content) {
  return h('section', { class: 'panel', 'data-key': id, 'aria-labelledby': `${id}-title` },
    h('div', { class: 'panel-head' }, h('h2', { id: `${id}-title` }, title), extra), content)
}

/** A table whose rows become cards on a narrow screen. `columns`: [{ name, short, number, place }]:
 * `short` is the name in a card, and `place` where the cell is there: "headline", beside the first
 * one; "long", below them; "last", at the end; these three without their name. `rows`: [{ key,
 * cells }]; the first cell heads its row. */
export function table(caption, columns, rows) {
  const look = ({ number, place }) => [number && 'number', place].filter(Boolean).join(' ') || null
  return h('div', { class: 'scroll', role: 'region', 'aria-label': caption, tabindex: '0' },
    h('table', { class: 'stack' }, h('caption', { class: 'hidden' }, caption),
      h('thead', {}, h('tr', {}, columns.map(column => h('th', { scope: 'col', class: column.number ? 'number' : null }, column.name)))),
      h('tbody', {}, rows.map(row => h('tr', { 'data-key': row.key }, row.cells.map((cell, index) =>
        index === 0 ? h('th', { scope: 'row' }, cell)
          : h('td', { 'data-label': columns[index].short ?? columns[index].name, class: look(columns[index]) }, cell)))))))
}

/** Names and values. `pairs`: [[name, value]]; those without a value are left out. */
export const facts = pairs =>
  h('dl', { class: 'facts' }, pairs.filter(([, value]) => value !== null && value !== undefined).map(([name, value]) =>
    h('div', {}, h('dt', {}, name), h('dd', {}, value))))

/** A button. With a `reason` it does nothing, and says why. */
export function button(label, act, { reason = null, tone = '', ...attributes } = {}) {
  return h('button', {
    type: 'button',
    class: tone || null,
    'aria-disabled': reason ? 'true' : null,
    title: reason,
    onclick: () => reason ? announce(reason) : act(),
    ...attributes,
  }, label, reason && h('span', { class: 'hidden' }, ` (${reason})`))
}

/** Which connection; all of them by default. */
export function connectionChoice(app, chosen, choose) {
  const names = (app.health.data?.connections ?? []).map(each => each.name).sort()
  return h('label', {}, h('span', {}, t('filter.connection')), h('select', { value: chosen, onchange: event => choose(event.target.value) },
    h('option', { value: '', selected: chosen === '' }, t('filter.all')),
    names.map(name => h('option', { value: name, selected: name === chosen }, name))))
}

let announced = null

/** Tell whoever listens instead of looking. */
export function announce(text) {
  const place = document.getElementById('polite')
  clearTimeout(announced)
  place.textContent = ''
  announced = setTimeout(() => { place.textContent = text }, 100)
}

/** A dialog; `done` resolves with the value of the button that closed it, or null. `content` may
 * be a function, which `update` calls again. Focus goes back to where it was. */
export function dialog(title, content, buttons) {
  const body = h('div', { class: 'dialog-body' })
  const shown = h('dialog', { 'aria-labelledby': 'dialog-title' },
    h('h2', { id: 'dialog-title' }, title), body,
    h('div', { class: 'buttons' }, buttons.map(({ label, value, tone }) =>
      h('button', { type: 'button', class: tone, onclick: () => shown.close(value) }, label))))
  const update = () => patch(body, typeof content === 'function' ? content() : content)
  update()
  const before = document.activeElement
  document.getElementById('dialogs').append(shown)
  shown.showModal()
  const done = new Promise(resolve => {
    shown.onclose = () => {
      shown.remove()
      if (before?.isConnected) before.focus()
      resolve(shown.returnValue || null)
    }
  })
  return { done, update, close: () => shown.close('') }
}

/** Ask before something is done that cannot be undone; whether to do it. */
export async function confirm(title, text, label, tone = 'danger') {
  const answer = await dialog(title, h('p', {}, text), [
    { label: t('action.cancel'), value: '' }, { label, value: 'yes', tone },
  ]).done
  return answer === 'yes'
}
