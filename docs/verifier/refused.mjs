// What went wrong, and whose fault it is.

/** The bundle is not good evidence (exit code 1). */
export class Refused extends Error {}

/** The reader's own files or options are at fault (exit code 2). */
export class Misused extends Error {}

/** Refuses the bundle unless the condition holds. */
export function want(condition, message) {
  if (!condition) throw new Refused(typeof message === 'function' ? message() : message);
}

/** Runs f and says in its error where it was. */
export function within(where, f) {
  try {
    return f();
  } catch (e) {
    if (e instanceof Refused) throw new Refused(`${where}: ${e.message}`);
    throw e;
  }
}
