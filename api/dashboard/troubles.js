// From the facts of the health check to what is wrong, and what somebody can do about it.

import * as format from './format.js'
import { t } from './i18n.js'
import { word } from './ui.js'

const SLOW_WRITER = 0.8 // of its mailbox
const LATE_LOOP = 1 // s
const LITTLE_DISK = 0.1 // of the whole
const CURES = { backoff: 'start', parked: 'start', conflict: 'conflict', logged_out: 'pair', banned: 'ban' }
const IN_INCIDENTS = new Set(['outage', 'outdated'])
const MOST_CONNECTIONS = 8 // told one by one

/** [{ key, tone, what, detail, cure, link }], the worst first. `detail`: the daemon's own words. */
export function troubles(health) {
  return [...ofTheDaemon(health), ...ofConnections(health), ...ofMessages(health), ...ofEvents(health)]
    .sort((one, other) => (one.tone === 'bad' ? 0 : 1) - (other.tone === 'bad' ? 0 : 1))
}

function ofTheDaemon({ database, writer, loop, disk }) {
  const found = []
  const add = (key, tone, detail, values) =>
    found.push({ key, tone, what: t(`trouble.${key}`, values), detail, cure: t(`cure.${key}`) })
  if (database?.error) add('database', 'bad', database.error)
  if (writer && writer.retrying_seconds !== null) {
    add('retrying', writer.retrying_seconds > 30 ? 'bad' : 'warn', writer.last_error, { time: format.duration(writer.retrying_seconds) })
  }
  if (writer?.stalled_seconds > 60) add('stalled', 'bad', null, { time: format.duration(writer.stalled_seconds) })
  if (writer && writer.depth > writer.capacity * SLOW_WRITER) {
    add('writer', 'warn', null, { depth: format.number(writer.depth), capacity: format.number(writer.capacity) })
  }
  if (loop?.lag_max_seconds > LATE_LOOP) add('loop', 'warn', null, { time: format.duration(loop.lag_max_seconds) })
  if (disk?.total_bytes && disk.free_bytes < disk.total_bytes * LITTLE_DISK) add('disk', 'bad', disk.path, { free: format.bytes(disk.free_bytes) })
  return found
}

function ofConnections({ connections }) {
  const ill = connections.filter(each => each.state in CURES && !IN_INCIDENTS.has(each.reason))
  const found = ill.slice(0, MOST_CONNECTIONS).map(each => ({
    key: `connection-${each.name}`,
    tone: each.state === 'backoff' ? 'warn' : 'bad',
    what: t('trouble.connection', { name: each.name, state: word('state', each.state) }),
    detail: each.sentence,
    cure: t(`cure.${CURES[each.state]}`),
    link: `#/connections/${encodeURIComponent(each.name)}`,
  }))
  if (ill.length > MOST_CONNECTIONS) {
    found.push({ key: 'more-connections', tone: 'warn', what: t('trouble.more', { count: ill.length - MOST_CONNECTIONS }), detail: null, cure: null })
  }
  for (const { name, deaf_suspicion: deaf } of connections) {
    if (!deaf) continue
    found.push({ key: `deaf-${name}`, tone: 'warn', what: t('trouble.deaf', { name, time: format.moment(deaf.since) }),
      detail: deaf.why, cure: t('cure.deaf'), link: `#/connections/${encodeURIComponent(name)}` })
  }
  return found
}

function ofMessages({ gaps, quarantine }) {
  const found = []
  if (gaps?.open) {
    found.push({ key: 'gaps', tone: 'warn', what: t('trouble.gaps', { count: gaps.open, missing: gaps.missing ?? 0 }),
      detail: null, cure: t('cure.gaps'), link: '#/gaps' })
  }
  if (quarantine) {
    found.push({ key: 'quarantine', tone: 'warn', what: t('trouble.quarantine', { count: quarantine }),
      detail: null, cure: t('cure.quarantine'), link: '#/quarantine' })
  }
  return found
}

function ofEvents({ webhooks, nats }) {
  const found = []
  const add = (key, about, name, detail, values = {}) =>
    found.push({ key, tone: 'warn', what: t(`trouble.${about}`, { name, ...values }), detail, cure: t(`cure.${about}`, { name }) })
  for (const { name, paused, retrying, dead, error } of webhooks ?? []) {
    if (paused !== null) add(`webhook-${name}`, 'webhookPaused', name, paused)
    else if (retrying) add(`webhook-${name}`, 'webhookFails', name, error)
    if (dead) add(`webhook-${name}-dead`, 'webhookDead', name, null, { count: dead })
  }
  if (nats?.state === 'failing') add('nats', 'nats', nats.url, nats.error)
  return found
}
