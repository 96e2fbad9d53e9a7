// Numbers, times and sizes, as people of the chosen language write them.

import { currentLocale, t } from './i18n.js'

const made = new Map()

function maker(kind, options) {
  const key = `${currentLocale()} ${kind.name} ${JSON.stringify(options)}`
  if (!made.has(key)) made.set(key, new kind(currentLocale(), options))
  return made.get(key)
}

export const NOTHING = '–'

export const number = value =>
  value === null || value === undefined ? NOTHING : maker(Intl.NumberFormat, {}).format(value)

/** 87.35 → 87.4 %; nothing is rounded up to 100. */
export function percent(value) {
  if (value === null || value === undefined) return NOTHING
  const shown = value < 100 ? Math.min(value, 99.9) : value
  return maker(Intl.NumberFormat, { style: 'percent', maximumFractionDigits: 1 }).format(shown / 100)
}

const unit = (value, name, digits = 0) =>
  maker(Intl.NumberFormat, { style: 'unit', unit: name, unitDisplay: 'narrow', maximumFractionDigits: digits })
    .format(value)

/** Seconds as one or two units: 0.4ms, 12s, 5m, 3h 20m, 4d. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NOTHING
  if (seconds < 1) return unit(seconds * 1000, 'millisecond', seconds < 0.01 ? 1 : 0)
  if (seconds < 60) return unit(Math.round(seconds), 'second')
  if (seconds < 3600) return unit(Math.floor(seconds / 60), 'minute')
  const hours = Math.floor(seconds / 3600)
  if (hours >= 48) return unit(Math.floor(hours / 24), 'day')
  const minutes = Math.floor((seconds % 3600) / 60)
  return minutes ? `${unit(hours, 'hour')} ${unit(minutes, 'minute')}` : unit(hours, 'hour')
}

/** 92 → 1:32 */
export const clock = seconds =>
  `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, '0')}`

const SIZES = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte']

export function bytes(value) {
  if (value === null || value === undefined) return NOTHING
  let step = 0
  while (value >= 1000 && step < SIZES.length - 1) [value, step] = [value / 1000, step + 1]
  return unit(value, SIZES[step], value < 10 && step > 1 ? 1 : 0)
}

/** 14:05; with seconds where they matter. */
export const time = (at, seconds = false) =>
  maker(Intl.DateTimeFormat, { hour: '2-digit', minute: '2-digit', ...(seconds && { second: '2-digit' }) })
    .format(new Date(at))

export const day = at =>
  maker(Intl.DateTimeFormat, { weekday: 'short', day: 'numeric', month: 'short', ...(otherYear(at) && { year: 'numeric' }) })
    .format(new Date(at))

export const shortDay = at =>
  maker(Intl.DateTimeFormat, { day: 'numeric', month: 'numeric' }).format(new Date(at))

/** The time, and the day unless it is today. */
export function moment(at, seconds = false) {
  if (!at) return NOTHING
  if (sameDay(at, Date.now())) return time(at, seconds)
  const year = otherYear(at) ? { year: 'numeric' } : { weekday: 'short' }
  const date = maker(Intl.DateTimeFormat, { day: '2-digit', month: '2-digit', ...year }).format(new Date(at))
  return `${date}, ${time(at, seconds)}`
}

/** With everything, for a tool tip or a detail. */
export const exact = at =>
  at ? maker(Intl.DateTimeFormat, { dateStyle: 'long', timeStyle: 'medium' }).format(new Date(at)) : NOTHING

/** "5 min ago" */
export function ago(at) {
  if (!at) return t('time.never')
  const seconds = (Date.now() - new Date(at)) / 1000
  return seconds < 5 ? t('time.now') : t('time.ago', { time: duration(seconds) })
}

export const sameDay = (one, other) => new Date(one).toDateString() === new Date(other).toDateString()

const otherYear = at => new Date(at).getFullYear() !== new Date().getFullYear()
