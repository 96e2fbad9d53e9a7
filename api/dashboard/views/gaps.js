// What connections missed, and whether it has come.

import { page, post, segment } from '../api.js'
import { h } from '../dom.js'
import * as format from '../format.js'
import { t } from '../i18n.js'
import { badge, button, confirm, facts, when, word } from '../ui.js'
import { ListPage } from './list_page.js'

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

export class Gaps extends ListPage {
  constructor(app, _args, parameters) {
    super(app, parameters)
    this.openOnly = parameters.get('all') === null && parameters.get('connection') === null
  }

  texts() {
    return { title: t('nav.gaps'), lead: t('gaps.lead'), none: t(this.openOnly ? 'gaps.noneOpen' : 'gaps.none') }
  }

  fetch(paging) {
    const path = this.connection ? `/connections/${segment(this.connection)}/gaps` : '/gaps'
    return page(path, { open_only: this.openOnly || null, ...paging })
  }

  concerns(type) {
    return type.startsWith('gap.')
  }

  check() {
    return { name: 'openOnly', label: t('gaps.openOnly') }
  }

  columns() {
    return GAP_COLUMNS()
  }

  cells(gap) {
    return gapRow(gap)
  }

  actions(gap) {
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
    await this.order(async () => {
      await post(`/gaps/${gap.id}/accept`, undefined, { by: this.app.session.name || 'dashboard' })
      return t('done.accept')
    })
  }
}
