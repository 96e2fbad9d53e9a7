// A real headless Chromium behind JSON lines: orders on stdin, answers on stdout.
//
//   {"id": 1, "op": "open", "width": 360, "height": 740, "scheme": "dark", "locale": "pt-BR"}   → a page's number
//   {"id": 2, "op": "goto", "page": 1, "url": "http://127.0.0.1:…/dashboard/"}
//   {"id": 3, "op": "click", "page": 1, "selector": "role=button[name=\"Stop\"]"}
//
// answers {"re": 1, "ok": true, "value": …} or {"re": 1, "ok": false, "error": "…"}.
// What goes wrong in a page (console, policy, requests to elsewhere) is kept until "problems" asks.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { chromium } from 'playwright-core'
import { audit } from './audit.mjs'

const DEADLINE = 25_000 // ms for anything to happen in a page
const profile = mkdtempSync(join(tmpdir(), 'zv-chromium-'))
const pages = new Map()
let browser

async function launch() {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage', '--disable-extensions', `--disk-cache-dir=${profile}`],
  })
}

const operations = {
  async open({ width = 1280, height = 800, scheme = 'light', locale = 'en-GB', reduced = false, zone = 'America/Sao_Paulo' }) {
    const context = await browser.newContext({
      viewport: { width, height }, colorScheme: scheme, locale, timezoneId: zone,
      reducedMotion: reduced ? 'reduce' : 'no-preference', hasTouch: width < 600, isMobile: width < 600,
    })
    context.setDefaultTimeout(DEADLINE)
    await context.addInitScript(() => {
      globalThis.violations = []
      addEventListener('securitypolicyviolation', event =>
        globalThis.violations.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`))
    })
    const page = await context.newPage()
    const problems = []
    let origin = null
    page.on('console', message => ['error', 'warning'].includes(message.type()) && problems.push(`console: ${message.text()} (${message.location().url})`))
    page.on('pageerror', error => problems.push(`error: ${error.stack}`))
    page.on('dialog', dialog => { problems.push(`dialog: ${dialog.message()}`); dialog.dismiss() })
    page.on('popup', popup => problems.push(`popup: ${popup.url()}`))
    page.on('request', request => {
      const url = new URL(request.url())
      if (origin !== null && url.protocol !== 'data:' && url.host !== origin) problems.push(`request: ${request.url()}`)
    })
    const number = pages.size + 1
    pages.set(number, { page, context, problems, begin: url => { origin = new URL(url).host } })
    return number
  },
  async goto({ entry, url }) {
    entry.begin(url)
    await entry.page.goto(url)
  },
  reload: ({ page }) => page.reload(),
  click: ({ page, selector, force = false }) => page.click(selector, { force }),
  fill: ({ page, selector, value }) => page.fill(selector, value),
  select: ({ page, selector, value }) => page.selectOption(selector, value),
  press: ({ page, keys }) => page.keyboard.press(keys),
  async wait({ page, selector, state = 'visible' }) {
    await page.waitForSelector(selector, { state })
  },
  async until({ page, expression }) { // from here: the policy of the page lets nothing be evaluated there again and again
    const end = Date.now() + DEADLINE
    while (!await page.evaluate(expression)) {
      if (Date.now() > end) throw new Error(`it never became true: ${expression}`)
      await new Promise(resolve => setTimeout(resolve, 25))
    }
  },
  text: ({ page, selector }) => page.innerText(selector),
  count: ({ page, selector }) => page.locator(selector).count(),
  js: ({ page, expression }) => page.evaluate(expression),
  size: ({ page, width, height }) => page.setViewportSize({ width, height }),
  async shot({ page, path, full = false }) {
    await page.screenshot({ path, fullPage: full, animations: 'disabled' })
  },
  async audit({ page, context }) {
    const session = await context.newCDPSession(page)
    const { nodes } = await session.send('Accessibility.getFullAXTree')
    await session.detach()
    return { ...await page.evaluate(audit), tree: nodes.filter(node => !node.ignored).map(node =>
      ({ role: node.role?.value, name: node.name?.value ?? '' })) }
  },
  async problems({ entry, page }) {
    const found = [...entry.problems.splice(0), ...(await page.evaluate('globalThis.violations.splice(0)')).map(each => `policy: ${each}`)]
    return found
  },
  async close({ entry }) {
    await entry.context.close()
  },
}

async function obey({ id, op, page: number, ...order }) {
  const entry = pages.get(number)
  try {
    const value = await operations[op]({ ...order, entry, page: entry?.page, context: entry?.context })
    if (op === 'close') pages.delete(number)
    say({ re: id, ok: true, value: value ?? null })
  } catch (error) {
    say({ re: id, ok: false, error: String(error.message) })
  }
}

const say = object => process.stdout.write(JSON.stringify(object) + '\n')

await launch()
say({ ready: browser.version() })
for await (const line of createInterface({ input: process.stdin })) await obey(JSON.parse(line))
await browser.close()
rmSync(profile, { recursive: true, force: true })
