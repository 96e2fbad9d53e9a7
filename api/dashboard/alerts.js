// What needs somebody's attention, whoever raises it: incidents of the health check, and events
// whose type begins with "alert.".

const MOST = 50 // kept; the newest ones

export class AlertBook {
  constructor() {
    this.incidents = []
    this.raised = new Map() // key: { at, connection, sentence }
  }

  /** What is going on now, the newest first: [{ key, code, since, sentence, connections }]. */
  list() {
    return [...this.incidents, ...this.raised.values()].sort((one, other) => other.since.localeCompare(one.since))
  }

  fromHealth(health) {
    this.incidents = (health.incidents ?? []).map(each => ({ key: `incident-${each.code}`, ...each }))
  }

  /** Take up alerts among events; whether there were any. */
  fromEvents(events) {
    const found = events.filter(event => event.type.startsWith('alert.'))
    for (const { id, type, at, connection, data } of found) {
      const key = `alert-${data.alert_id ?? data.code ?? id}`
      if (type === 'alert.resolved') this.raised.delete(key)
      else this.raised.set(key, { key, code: data.code ?? type, since: at, sentence: data.sentence ?? '', connection })
    }
    for (const key of [...this.raised.keys()].slice(0, -MOST)) this.raised.delete(key)
    return found.length > 0
  }
}
