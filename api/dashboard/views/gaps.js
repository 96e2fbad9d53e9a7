// What connections missed, and whether it has come.

import { page, post, segment } from '../api.js'
import { coalesce } from '../coalesce.js'
import { h } from '../dom.js'
import * as format from '../format.js'
import { t } from '../i18n.js'
import { announce, badge, button, confirm, empty, facts, loading, problem, table, when, word } from '../ui.js'
import { Pages } from './pages.js'

const TONES = { out: 'bad', draining: 'busy', open: 'warn', closed: 'good' }

export const GAP_COLUMNS = () => [
  { name: t('connection.name') }, { name: t('gaps.from') }, { name: t('gaps.to') }, { name: t('connection.state'), place: 'headline' },
  { name: t('connection.why'), place: 'long' }, { name: t('gaps.announced'), number: true }, { name: t('gaps.missing'), number: true },
]

/** The cells of a gap. */
export const gapRow = gap => [
  h('a', { href: `#/connections/${encodeURIComponent(gap.connection)}` }, gap.connection),
  when(gap.from_at), when(gap.to_at),
  badge(word('gap', gap.state), TONES[gap.state]),
  `${word('gapKind', gap.kind)} · ${word('reason', gap.reason)}`,
  format.number(gap.announced), gap.missing ? badge(format.number(gap.missing), 'warn') : format.number(gap.missing),
]

export class Gaps {
  constructor(app, _args, parameters) {
    this.app = app
    this.openOnly = parameters.get('all') === null && parameters.get('connection') === null
    this.connection = parameters.get('connection') ?? ''
    this.error = null
    this.pages = new Pages((limit, cursor) => page(
      this.connection ? `/connections/${segment(this.connection)}/gaps` : '/gaps',
      { open_only: this.openOnly || null, limit, cursor }))
    this.refresh = coalesce(async () => { await this.pages.refresh(); this.app.render() }, 2000)
  }

  title() {
    return t('nav.gaps')
  }

  load() {
    this.refresh()
  }

  poll() {
    this.refresh()
  }

  close() {
    this.refresh.stop()
  }

  onEvents(events, missed) {
    if (missed || events.some(event => event.type.startsWith('gap.'))) this.refresh()
  }

  choose(changes) {
    Object.assign(this, changes)
    this.pages.reset().then(() => this.app.render())
    this.app.render()
  }

  render() {
    const { rows, next, error } = this.pages
    return [h('h1', {}, t('nav.gaps')), h('p', { class: 'soft lead' }, t('gaps.lead')),
      h('div', { class: 'filters' },
        h('label', { class: 'check' }, h('input', { type: 'checkbox', checked: this.openOnly, onchange: event => this.choose({ openOnly: event.target.checked }) }), t('gaps.openOnly')),
        connectionChoice(this.app, this.connection, connection => this.choose({ connection }))),
      error && problem(error, () => this.refresh()), this.error && problem(this.error),
      rows === null ? (error ? null : loading())
        : rows.length === 0 ? empty(t(this.openOnly ? 'gaps.noneOpen' : 'gaps.none'))
          : h('section', { class: 'panel' }, table(t('nav.gaps'), [...GAP_COLUMNS(), { name: t('action.title'), place: 'last' }],
            rows.map(gap => ({ key: gap.id, cells: [...gapRow(gap), this.more(gap)] })))),
      next !== null && button(t('action.older'), async () => { await this.pages.more(); this.app.render() })]
  }

  more(gap) {
    const reason = this.app.whyNot('operate') ?? (gap.state === 'closed' ? t('gaps.isClosed') : gap.to_at === null ? t('gaps.goesOn') : null)
    return [
      gap.state === 'closed' ? h('span', { class: 'soft' }, word('resolution', gap.resolution))
        : button(t('gaps.accept'), () => this.accept(gap), { reason }),
      h('details', {}, h('summary', {}, t('action.details')), facts([
        [t('gaps.number'), format.number(gap.id)], [t('gaps.login'), when(gap.login_at)],
        ...['announced_messages', 'stored', 'duplicate', 'undecryptable', 'quarantined', 'other', 'covered', 'waiting', 'given_up', 'in_quarantine']
          .filter(name => gap[name]).map(name => [t(`gaps.${name}`), format.number(gap[name])]),
        [t('gaps.interrupted'), gap.interrupted ? t('app.yes') : null],
        [t('gaps.deviceReplaced'), gap.device_replaced ? t('app.yes') : null],
        [t('gaps.coveredBy'), gap.covered_by && format.number(gap.covered_by)],
        [t('gaps.closedAt'), gap.closed_at && when(gap.closed_at)], [t('gaps.acceptedBy'), gap.accepted_by],
      ]))]
  }

  async accept(gap) {
    if (!await confirm(t('ask.accept', { number: gap.id, name: gap.connection }), t('ask.accept.more', { count: gap.missing }), t('gaps.accept'), 'primary')) return
    try {
      await post(`/gaps/${gap.id}/accept`, undefined, { by: this.app.session.name || 'dashboard' })
      this.error = null
      announce(t('done.accept'))
    } catch (error) {
      this.error = error
    }
    this.app.refreshHealth()
    await this.pages.refresh()
    this.app.render()
  }
}

/** Which connection; all of them by default. */
export function connectionChoice(app, chosen, choose) {
  const names = (app.health.data?.connections ?? []).map(each => each.name).sort()
  return h('label', {}, h('span', {}, t('filter.connection')), h('select', { value: chosen, onchange: event => choose(event.target.value) },
    h('option', { value: '', selected: chosen === '' }, t('filter.all')),
    names.map(name => h('option', { value: name, selected: name === chosen }, name))))
}
