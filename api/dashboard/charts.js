// Charts in SVG, at the size that they have on the screen, each with its numbers as a table.

import { h, s } from './dom.js'
import * as format from './format.js'
import { t } from './i18n.js'

const TOP = 10
const BOTTOM = 20
const LEFT = 38
const RIGHT = 6
const WIDEST_BAR = 28

/** A round number not below `most`, and where to draw lines up to it. */
function scale(most) {
  if (most <= 4) return { top: Math.max(1, Math.ceil(most)), steps: Math.max(1, Math.ceil(most)) }
  const power = 10 ** Math.floor(Math.log10(most / 4))
  const step = [1, 2, 2.5, 5, 10].map(each => each * power).find(each => each * 4 >= most)
  const whole = Math.max(1, Math.ceil(step))
  return { top: whole * Math.ceil(most / whole), steps: Math.ceil(most / whole) }
}

const compact = value => value >= 10_000
  ? `${format.number(Math.round(value / 100) / 10)}k` : format.number(value)

/** Stacked bars over time.
 * `points`: [{ at, values: [..] }]; `series`: [{ name, tone }]; `label(at)` for the axis;
 * `width`: pixels; `title`: what it shows. */
export function stackedBars({ id, title, points, series, label, width, height = 180 }) {
  const inner = Math.max(60, width - LEFT - RIGHT)
  const tall = height - TOP - BOTTOM
  const sums = points.map(point => point.values.reduce((sum, each) => sum + each, 0))
  const { top, steps } = scale(Math.max(1, ...sums))
  const slot = inner / Math.max(1, points.length)
  const bar = Math.max(1, Math.min(WIDEST_BAR, slot * 0.76))
  const y = value => TOP + tall * (1 - value / top)
  const every = Math.max(1, Math.ceil(70 / slot))
  const totals = series.map((each, index) =>
    `${each.name}: ${format.number(points.reduce((sum, point) => sum + point.values[index], 0))}`)
  const grid = []
  for (let step = 0; step <= steps; step += 1) {
    const value = (top / steps) * step
    grid.push(s('line', { class: 'grid', x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }),
      s('text', { class: 'axis', x: LEFT - 6, y: y(value) + 4, 'text-anchor': 'end' }, compact(value)))
  }
  const bars = points.map((point, index) => {
    const x = LEFT + slot * index + (slot - bar) / 2
    let low = 0
    const parts = point.values.map((value, which) => {
      const from = low
      low += value
      if (!value) return null
      const high = Math.max(y(from) - y(low), 1.5)
      return s('rect', { class: `fill ${series[which].tone}`, x, y: y(from) - high, width: bar, height: high, rx: Math.min(2, bar / 3) })
    })
    const words = point.values.map((value, which) => `${series[which].name}: ${format.number(value)}`)
    return s('g', {}, s('title', {}, `${label(point.at)} · ${words.join(' · ')}`),
      s('rect', { class: 'reach', x: LEFT + slot * index, y: TOP, width: slot, height: tall }), parts)
  })
  const last = points.length - 1
  const ticks = points.map((point, index) => (last - index) % every ? null
    : s('text', { class: 'axis', x: index === last ? width - RIGHT : LEFT + slot * (index + 0.5), y: height - 5, 'text-anchor': index === last ? 'end' : 'middle' }, label(point.at)))
  return h('figure', { class: 'chart', 'data-key': id },
    s('svg', { role: 'img', 'aria-label': `${title}. ${totals.join(', ')}`, width, height, viewBox: `0 0 ${width} ${height}` }, grid, bars, ticks),
    h('figcaption', {}, h('ul', { class: 'legend' }, series.map((each, index) =>
      h('li', {}, h('span', { class: `swatch ${each.tone}`, 'aria-hidden': 'true' }), totals[index])))),
    asTable(title, [t('chart.time'), ...series.map(each => each.name)],
      points.map(point => [label(point.at), ...point.values.map(format.number)]).reverse()))
}

/** A line over the last minutes. `points`: [{ at, value }]. */
export function line({ id, title, points, show, width, height = 56 }) {
  const values = points.map(point => point.value)
  const most = Math.max(...values, 0) || 1
  const [from, to] = [points[0]?.at ?? 0, points[points.length - 1]?.at ?? 1]
  const x = at => to === from ? width - 3 : 2 + ((at - from) / (to - from)) * (width - 5)
  const y = value => height - 4 - (value / most) * (height - 10)
  const path = points.map((point, index) => `${index ? 'L' : 'M'}${x(point.at).toFixed(1)} ${y(point.value).toFixed(1)}`).join('')
  const newest = values[values.length - 1]
  return h('figure', { class: 'chart small', 'data-key': id },
    s('svg', { role: 'img', width, height, viewBox: `0 0 ${width} ${height}`,
      'aria-label': `${title}: ${t('chart.nowMost', { now: show(newest), most: show(Math.max(...values)) })}` },
    s('line', { class: 'grid', x1: 0, x2: width, y1: height - 4, y2: height - 4 }),
    points.length > 1 ? s('path', { class: 'line', d: path }) : null,
    points.length ? s('circle', { class: 'dot', cx: x(to), cy: y(newest), r: 2.5 }) : null))
}

/** One bar of a whole, such as a disk. */
export function meter(part, whole, label, tone = 'busy') {
  const share = whole > 0 ? Math.min(1, part / whole) : 0
  return s('svg', { class: 'meter', role: 'img', 'aria-label': label, viewBox: '0 0 100 6', preserveAspectRatio: 'none' },
    s('rect', { class: 'reach-full', width: 100, height: 6 }),
    s('rect', { class: `fill ${tone}`, width: share * 100, height: 6 }))
}

/** Days as columns: how much of each it was up, down, stopped; `days` as the API gives them. */
export function uptime({ id, title, days, width, height = 96 }) {
  const slot = width / Math.max(1, days.length)
  const bar = Math.min(44, slot * 0.78)
  const tall = height - 34
  const tenable = slot >= 34
  const columns = days.map((day, index) => {
    const x = slot * index + (slot - bar) / 2
    const known = day.online + day.down + day.stopped + day.unknown
    let base = 16 + tall
    const parts = [['good', day.online], ['bad', day.down], ['idle', day.stopped], ['none', day.unknown]].map(([tone, seconds]) => {
      if (!seconds || !known) return null
      const high = Math.max((seconds / known) * tall, 1.5)
      base -= high
      return s('rect', { class: `fill ${tone}`, x, y: Math.max(base, 14), width: bar, height: high })
    })
    const words = `${format.day(day.begins_at)}: ${dayWords(day)}`
    return s('g', {}, s('title', {}, words), s('rect', { class: 'reach-full', x, y: 16, width: bar, height: tall, rx: 2 }), parts,
      tenable || index % 2 === (days.length - 1) % 2
        ? s('text', { class: 'axis', x: tenable || index < days.length - 1 ? x + bar / 2 : width, y: height - 4,
          'text-anchor': tenable || index < days.length - 1 ? 'middle' : 'end' }, format.shortDay(day.begins_at)) : null,
      tenable ? s('text', { class: 'axis', x: x + bar / 2, y: 10, 'text-anchor': 'middle' }, format.percent(day.percent)) : null)
  })
  return h('figure', { class: 'chart', 'data-key': id },
    s('svg', { role: 'img', 'aria-label': title, width, height, viewBox: `0 0 ${width} ${height}` }, columns),
    h('figcaption', {}, h('ul', { class: 'legend' }, ['good', 'bad', 'idle', 'none'].map((tone, index) =>
      h('li', {}, h('span', { class: `swatch ${tone}`, 'aria-hidden': 'true' }), t(`uptime.${['online', 'down', 'stopped', 'unknown'][index]}`))))),
    asTable(title, [t('chart.day'), t('uptime.percent'), t('uptime.online'), t('uptime.down'), t('uptime.stopped')],
      [...days].reverse().map(day => [format.day(day.begins_at), format.percent(day.percent),
        format.duration(day.online), format.duration(day.down), format.duration(day.stopped)])))
}

const dayWords = day => day.percent === null ? t('uptime.nothing')
  : `${format.percent(day.percent)} · ${t('uptime.down')}: ${format.duration(day.down)}`

function asTable(caption, heads, rows) {
  return h('details', { class: 'as-table' }, h('summary', {}, t('chart.asTable')),
    h('div', { class: 'scroll', role: 'region', 'aria-label': caption, tabindex: '0' },
      h('table', {}, h('caption', { class: 'hidden' }, caption),
        h('thead', {}, h('tr', {}, heads.map((head, index) => h('th', { scope: 'col', class: index ? 'number' : null }, head)))),
        h('tbody', {}, rows.map(row => h('tr', {}, row.map((cell, index) =>
          index ? h('td', { class: 'number' }, cell) : h('th', { scope: 'row' }, cell))))))))
}
