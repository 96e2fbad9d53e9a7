// The texts in the language of whoever looks, from catalogues with the same keys.

import { remember, remembered } from './memory.js'

export const LANGUAGES = { en: 'English', 'pt-BR': 'Português' }

const catalogues = {}
let language = 'en'
let plurals = new Intl.PluralRules('en')

/** The language chosen here before, else the first of the browser's that there is. */
export function preferredLanguage() {
  const chosen = remembered('language')
  if (chosen in LANGUAGES) return chosen
  for (const each of navigator.languages ?? []) {
    if (/^pt\b/i.test(each)) return 'pt-BR'
    if (/^en\b/i.test(each)) return 'en'
  }
  return 'en'
}

/** Use a language; loads its texts the first time. */
export async function useLanguage(name) {
  catalogues[name] ??= await load(name)
  language = name
  plurals = new Intl.PluralRules(name)
  document.documentElement.lang = name
}

/** The same, and remember it. */
export async function chooseLanguage(name) {
  await useLanguage(name)
  remember('language', name)
}

async function load(name) {
  const answer = await fetch(new URL(`./texts/${name}.json`, import.meta.url))
  if (!answer.ok) throw new Error(`the texts in ${name} cannot be loaded (${answer.status})`)
  return answer.json()
}

export const currentLanguage = () => language

/** The same for dates and numbers: of a country, where the browser names one. */
export const currentLocale = () =>
  (navigator.languages ?? []).find(each => each.split('-')[0] === language.split('-')[0]) ?? language

/** Whether there is such a text. */
export const has = key => key in catalogues[language]

/** The text of a key, with `{name}` filled in. With a `count`, its plural form: `key.one`, … */
export function t(key, values = {}) {
  const catalogue = catalogues[language]
  let text = catalogue[key]
  if ('count' in values) {
    text = catalogue[`${key}.${plurals.select(values.count)}`] ?? catalogue[`${key}.other`] ?? text
  }
  if (text === undefined) {
    console.error(`there is no text for ${key} in ${language}`)
    return key
  }
  return text.replace(/\{(\w+)\}/g, (whole, name) => name in values ? String(values[name]) : whole)
}
