// What needs somebody's attention, whoever raises it: incidents of the health check, and alerts.

import { get } from './api.js'
import { currentLanguage } from './i18n.js'

export class AlertBook {
  constructor() {
    this.incidents = []
    this.raised = [] // rows of GET /alerts
    this.error = null
  }

  /** What is going on now, the newest first: [{ key, code, title, since, detail, … }]. An incident
   * that is an alert already is told once. */
  list() {
    const told = new Set(this.raised.map(each => each.rule))
    const incidents = this.incidents.filter(each => !told.has(each.code))
    return [...incidents, ...this.raised.map(shown)].sort((one, other) => other.since.localeCompare(one.since))
  }

  /** How many alerts wait for somebody. */
  waiting() {
    return this.raised.filter(each => each.state === 'firing' && each.silenced_by === null).length
  }

  fromHealth(health) {
    this.incidents = (health.incidents ?? []).map(each =>
      ({ key: `incident-${each.code}`, tone: 'bad', detail: each.sentence, ...each }))
  }

  /** Ask for the alerts; a daemon that cannot say them leaves what was known. */
  async load() {
    try {
      this.raised = await get('/alerts', { language: currentLanguage() })
      this.error = null
    } catch (error) {
      this.error = error
    }
  }

  clear() {
    this.incidents = []
    this.raised = []
  }
}

/** What an alert is known by; one that could not be stored yet has no number. */
export const alertKey = alert => alert.id ?? [alert.rule, ...alert.subjects].join(' ')

/** Whether events tell of alerts. */
export const tellOfAlerts = events => events.some(event => event.type.startsWith('alert.'))

const shown = alert => ({
  key: `alert-${alertKey(alert)}`,
  code: alert.rule,
  title: alert.title,
  since: alert.since,
  detail: alert.detail,
  cure: alert.cure,
  state: alert.state,
  tone: alert.severity === 'critical' ? 'bad' : 'warn',
  connection: alert.connection,
})
