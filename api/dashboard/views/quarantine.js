// What could not be stored, and another try at it.

import { get, page, post } from '../api.js'
import { coalesce } from '../coalesce.js'
import { h } from '../dom.js'
import * as format from '../format.js'
import { t } from '../i18n.js'
import { announce, badge, button, empty, facts, loading, problem, quoted, table, when, word } from '../ui.js'
import { connectionChoice } from './gaps.js'
import { Pages } from './pages.js'

const TONES = { message: 'warn', stanza: 'warn', none: 'bad', resolved: 'good' }

export class Quarantine {
  constructor(app, _args, parameters) {
    this.app = app
    this.resolved = parameters.get('all') !== null
    this.connection = parameters.get('connection') ?? ''
    this.error = null
    this.busy = new Set()
    this.whole = new Map() // rows with what is told of one alone
    this.pages = new Pages((limit, cursor) => page('/quarantine', { connection: this.connection, resolved: this.resolved || null, limit, cursor }))
    this.refresh = coalesce(async () => { await this.pages.refresh(); this.app.render() }, 2000)
  }

  title() {
    return t('nav.quarantine')
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
    if (missed || events.some(event => ['message.quarantined', 'message.recovered'].includes(event.type))) this.refresh()
  }

  choose(changes) {
    Object.assign(this, changes)
    this.pages.reset().then(() => this.app.render())
    this.app.render()
  }

  render() {
    const { rows, next, error } = this.pages
    return [h('h1', {}, t('nav.quarantine')), h('p', { class: 'soft lead' }, t('quarantine.lead')),
      h('div', { class: 'filters' },
        h('label', { class: 'check' }, h('input', { type: 'checkbox', checked: this.resolved, onchange: event => this.choose({ resolved: event.target.checked }) }), t('quarantine.resolvedToo')),
        connectionChoice(this.app, this.connection, connection => this.choose({ connection }))),
      error && problem(error, () => this.refresh()), this.error && problem(this.error),
      rows === null ? (error ? null : loading())
        : rows.length === 0 ? empty(t('quarantine.none'))
          : h('section', { class: 'panel' }, table(t('nav.quarantine'), [
            { name: t('connection.name') }, { name: t('quarantine.received') }, { name: t('quarantine.error'), place: 'long' },
            { name: t('quarantine.attempts'), number: true }, { name: t('quarantine.wayOut'), place: 'headline' }, { name: t('action.title'), place: 'last' },
          ], rows.map(row => ({ key: row.id, cells: this.row(row) })))),
      next !== null && button(t('action.older'), async () => { await this.pages.more(); this.app.render() })]
  }

  row(row) {
    const reason = this.app.whyNot('operate') ?? (this.busy.has(row.id) ? t('action.underWay')
      : row.way_out === 'none' ? t('quarantine.noWayOut') : row.way_out === 'resolved' ? t('quarantine.isResolved') : null)
    const whole = this.whole.get(row.id) ?? row
    return [
      h('a', { href: `#/connections/${encodeURIComponent(row.connection)}` }, row.connection),
      when(row.received_at), quoted(row.error, { class: 'error' }), format.number(row.attempts), badge(word('wayOut', row.way_out), TONES[row.way_out]),
      [button(t('quarantine.retry'), () => this.retry(row), { reason }),
        h('details', { ontoggle: event => event.target.open && this.show(row.id) }, h('summary', {}, t('action.details')), facts([
          [t('gaps.number'), format.number(row.id)], [t('quarantine.chat'), row.chat], [t('quarantine.sender'), row.sender],
          [t('quarantine.externalId'), row.external_id], [t('quarantine.kind'), whole.kind && word('kind', whole.kind)],
          [t('quarantine.sentAt'), whole.sent_at && when(new Date(whole.sent_at * 1000).toISOString())],
          [t('quarantine.lastAttempt'), when(row.last_attempt_at)], [t('quarantine.bytes'), format.bytes(row.stanza_bytes)],
          [t('quarantine.resolvedAt'), row.resolved_at && when(row.resolved_at)], [t('quarantine.message'), row.message_id && format.number(row.message_id)],
        ]))]]
  }

  async show(id) {
    if (this.whole.has(id)) return
    try {
      this.whole.set(id, await get(`/quarantine/${id}`))
    } catch (error) {
      this.error = error
    }
    this.app.render()
  }

  async retry(row) {
    this.busy.add(row.id)
    this.app.render()
    try {
      const after = await post(`/quarantine/${row.id}/retry`)
      this.error = null
      announce(t(after.resolved_at ? 'done.retried' : 'done.stillKept'))
    } catch (error) {
      this.error = error
    }
    this.busy.delete(row.id)
    this.app.refreshHealth()
    await this.pages.refresh()
    this.app.render()
  }
}
