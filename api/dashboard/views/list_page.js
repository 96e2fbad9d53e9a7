// A page that is one table of what waits for somebody: filters above it, older rows on demand.

import { coalesce } from '../coalesce.js'
import { h } from '../dom.js'
import { t } from '../i18n.js'
import { announce, button, connectionChoice, empty, loading, problem, table } from '../ui.js'
import { Pages } from './pages.js'

const GAP = 2_000 // ms

/** What a page of this kind has of its own:
 * `texts()`: { title, lead, none }; `fetch(paging)`: one page of rows, see Pages;
 * `concerns(type)`: whether events of this type may change the rows;
 * `check()`: { name, label } of the filter that is on or off: the field for it, and what it says;
 * `columns()` and `cells(row)`: see table, without the last column, whose cell is `actions(row)`. */
export class ListPage {
  constructor(app, parameters) {
    this.app = app
    this.connection = parameters.get('connection') ?? ''
    this.error = null // of an order
    this.pages = new Pages((limit, cursor) => this.fetch({ limit, cursor }))
    this.refresh = coalesce(() => this.look(), GAP)
  }

  title() {
    return this.texts().title
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
    if (missed || events.some(event => this.concerns(event.type))) this.refresh()
  }

  async look() {
    await this.pages.refresh()
    this.app.render()
  }

  async more() {
    await this.pages.more()
    this.app.render()
  }

  choose(changes) {
    Object.assign(this, changes)
    this.pages.reset().then(() => this.app.render())
    this.app.render()
  }

  /** Do it, say what came of it, and look again. `work` resolves with what there is to say. */
  async order(work) {
    try {
      const done = await work()
      this.error = null
      announce(done)
    } catch (error) {
      this.error = error
    }
    this.app.refreshHealth()
    await this.look()
  }

  /** What a row is known by. */
  key(row) {
    return row.id
  }

  render() {
    const { rows, next, error } = this.pages
    const { title, lead, none } = this.texts()
    const { name, label } = this.check()
    return [h('h1', {}, title), h('p', { class: 'soft lead' }, lead),
      h('div', { class: 'filters' },
        h('label', { class: 'check' }, h('input', { type: 'checkbox', checked: this[name], onchange: event => this.choose({ [name]: event.target.checked }) }), label),
        connectionChoice(this.app, this.connection, connection => this.choose({ connection }))),
      error && problem(error, () => this.refresh()), this.error && problem(this.error),
      rows === null ? (error ? null : loading())
        : rows.length === 0 ? empty(none)
          : h('section', { class: 'panel' }, table(title, [...this.columns(), { name: t('action.title'), place: 'last' }],
            rows.map(row => ({ key: this.key(row), cells: [...this.cells(row), this.actions(row)] })))),
      next !== null && button(t('action.older'), () => this.more())]
  }
}
