// What is wrong, since when, what to do; who takes care of it, and who is not told.

import { alertKey } from '../alerts.js'
import { page, post } from '../api.js'
import { h } from '../dom.js'
import * as format from '../format.js'
import { currentLanguage, t } from '../i18n.js'
import { badge, button, dialog, facts, quoted, when, word } from '../ui.js'
import { ListPage } from './list_page.js'

const TONES = { firing: 'bad', acknowledged: 'warn', resolved: 'good' }
const SEVERITIES = { critical: 'bad', warning: 'warn', info: 'idle' }
const SPANS = [3600, 4 * 3600, 24 * 3600, 7 * 24 * 3600] // seconds of a silence

export class Alerts extends ListPage {
  constructor(app, _args, parameters) {
    super(app, parameters)
    this.activeOnly = parameters.get('all') === null
  }

  texts() {
    return { title: t('nav.alerts'), lead: t('alerts.lead'), none: t(this.activeOnly ? 'alerts.noneActive' : 'alerts.none') }
  }

  async fetch(paging) {
    const query = { language: currentLanguage(), all: this.activeOnly ? null : true, ...paging }
    const { rows, next } = await page('/alerts', query)
    return { rows: this.connection ? rows.filter(row => row.subjects.includes(this.connection)) : rows, next }
  }

  async look() {
    this.app.refreshAlerts(0)
    await super.look()
  }

  concerns(type) {
    return type.startsWith('alert.')
  }

  check() {
    return { name: 'activeOnly', label: t('alerts.activeOnly') }
  }

  key(alert) {
    return alertKey(alert)
  }

  columns() {
    return [
      { name: t('alerts.what') }, { name: t('connection.state'), place: 'headline' },
      { name: t('connection.since') }, { name: t('alerts.cure'), place: 'long' },
    ]
  }

  cells(alert) {
    return [
      h('span', { class: 'what' }, badge(word('severity', alert.severity), SEVERITIES[alert.severity]), ' ',
        alert.connection ? h('a', { href: `#/connections/${encodeURIComponent(alert.connection)}` }, alert.title) : alert.title),
      [badge(word('alert', alert.state), TONES[alert.state]), alert.silenced_by && badge(t('alerts.silenced'))],
      when(alert.since),
      alert.state === 'resolved' ? t('alerts.over', { time: format.moment(alert.resolved_at) }) : alert.cure,
    ]
  }

  actions(alert) {
    const reason = this.app.whyNot('operate')
    return [
      alert.state === 'firing' && alert.id !== null && button(t('alerts.acknowledge'), () => this.acknowledge(alert), { reason, 'data-order': 'acknowledge' }),
      alert.state !== 'resolved' && button(t('alerts.silence'), () => this.silence(alert), { reason, 'data-order': 'silence' }),
      h('details', {}, h('summary', {}, t('action.details')), facts([
        [t('alerts.cause'), alert.cause], [t('alerts.says'), alert.detail ? quoted(alert.detail) : null],
        [t('alerts.whom'), alert.subjects.length > 1 ? alert.subjects.join(', ') : null],
        [t('alerts.told'), alert.times ? t('alerts.times', { count: alert.times }) : t('alerts.untold')],
        [t('alerts.by'), alert.acknowledged_by], [t('alerts.silencedBy'), alert.silenced_by],
        [t('alerts.rule'), alert.rule], [t('alerts.number'), alert.id === null ? null : format.number(alert.id)],
      ]))]
  }

  async acknowledge(alert) {
    await this.order(async () => {
      await post(`/alerts/${alert.id}/ack`, undefined, { by: this.app.session.name || 'dashboard' })
      return t('done.acknowledge')
    })
  }

  async silence(alert) {
    const chosen = await dialog(t('ask.silence', { what: alert.title }), h('p', {}, t('ask.silence.more')), [
      { label: t('action.cancel'), value: '' },
      ...SPANS.map(seconds => ({ label: format.duration(seconds), value: String(seconds) })),
    ]).done
    if (!chosen) return
    await this.order(async () => {
      // One alert of many connections, or of none, is silenced by its rule.
      const query = { rule: alert.rule, seconds: chosen, by: this.app.session.name || 'dashboard' }
      if (alert.connection) query.connection = alert.connection
      else query.all = true
      await post('/silences', undefined, query)
      return t('done.silence')
    })
  }
}
