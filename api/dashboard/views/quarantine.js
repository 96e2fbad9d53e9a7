// What could not be stored, and another try at it.

import { get, page, post } from '../api.js'
import { h } from '../dom.js'
import * as format from '../format.js'
import { t } from '../i18n.js'
import { badge, button, facts, quoted, when, word } from '../ui.js'
import { ListPage } from './list_page.js'

const EVENTS = ['message.quarantined', 'message.recovered']
const TONES = { message: 'warn', stanza: 'warn', none: 'bad', resolved: 'good' }

export class Quarantine extends ListPage {
  constructor(app, _args, parameters) {
    super(app, parameters)
    this.resolved = parameters.get('all') !== null
    this.busy = new Set()
    this.whole = new Map() // rows with what is told of one alone
  }

  texts() {
    return { title: t('nav.quarantine'), lead: t('quarantine.lead'), none: t('quarantine.none') }
  }

  fetch(paging) {
    return page('/quarantine', { connection: this.connection, resolved: this.resolved || null, ...paging })
  }

  concerns(type) {
    return EVENTS.includes(type)
  }

  check() {
    return { name: 'resolved', label: t('quarantine.resolvedToo') }
  }

  columns() {
    return [
      { name: t('connection.name') }, { name: t('quarantine.received') }, { name: t('quarantine.error'), place: 'long' },
      { name: t('quarantine.attempts'), number: true }, { name: t('quarantine.wayOut'), place: 'headline' },
    ]
  }

  cells(row) {
    return [
      h('a', { href: `#/connections/${encodeURIComponent(row.connection)}` }, row.connection),
      when(row.received_at), quoted(row.error, { class: 'error' }), format.number(row.attempts), badge(word('wayOut', row.way_out), TONES[row.way_out]),
    ]
  }

  actions(row) {
    const reason = this.app.whyNot('operate') ?? (this.busy.has(row.id) ? t('action.underWay')
      : row.way_out === 'none' ? t('quarantine.noWayOut') : row.way_out === 'resolved' ? t('quarantine.isResolved') : null)
    const whole = this.whole.get(row.id) ?? row
    return [button(t('quarantine.retry'), () => this.retry(row), { reason }),
      h('details', { ontoggle: event => event.target.open && this.show(row.id) }, h('summary', {}, t('action.details')), facts([
        [t('gaps.number'), format.number(row.id)], [t('quarantine.chat'), row.chat], [t('quarantine.sender'), row.sender],
        [t('quarantine.externalId'), row.external_id], [t('quarantine.kind'), whole.kind && word('kind', whole.kind)],
        [t('quarantine.sentAt'), whole.sent_at && when(new Date(whole.sent_at * 1000).toISOString())],
        [t('quarantine.lastAttempt'), when(row.last_attempt_at)], [t('quarantine.bytes'), format.bytes(row.stanza_bytes)],
        [t('quarantine.resolvedAt'), row.resolved_at && when(row.resolved_at)], [t('quarantine.message'), row.message_id && format.number(row.message_id)],
      ]))]
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
    await this.order(async () => {
      try {
        const after = await post(`/quarantine/${row.id}/retry`)
        return t(after.resolved_at ? 'done.retried' : 'done.stillKept')
      } finally {
        this.busy.delete(row.id)
      }
    })
  }
}
