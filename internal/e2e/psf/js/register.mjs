// Loaded before helia-coord (node --import): what it needs and this machine has not.
import { register } from 'node:module'

register('./hooks.mjs', import.meta.url)

// it-queue needs it; Node.js has it from version 22 on.
Promise.withResolvers ??= function () {
  let resolve, reject
  const promise = new this((res, rej) => { resolve = res; reject = rej })
  return { promise, resolve, reject }
}

// Its own log goes to stderr: stdout is for answers to the test.
const error = console.error.bind(console)
for (const name of ['log', 'info', 'warn', 'error']) {
  console[name] = (...args) => error(new Date().toISOString(), ...args)
}
