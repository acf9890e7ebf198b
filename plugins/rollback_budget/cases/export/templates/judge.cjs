// Judges an answer by the expectation that a person approved. Made by: rollback-budget debt export promptfoo
const { isDeepStrictEqual } = require('node:util');

const exact = (value, answer) => {
  if (typeof value === 'string') return answer.trim() === value.trim();
  try {
    return isDeepStrictEqual(JSON.parse(answer), value);
  } catch {
    return false;
  }
};

module.exports = (output, { vars }) => {
  const { expectation } = JSON.parse(Buffer.from(vars.case, 'base64').toString('utf8'));
  const answer = typeof output === 'string' ? output : JSON.stringify(output);
  if (expectation.kind === 'exact') {
    const pass = exact(expectation.value, answer);
    return { pass, score: pass ? 1 : 0, reason: pass ? 'is the expected answer' : 'is not the expected answer' };
  }
  const missing = [expectation.value].flat().filter((text) => !answer.includes(text));
  const reason = missing.length ? `does not contain ${JSON.stringify(missing[0])}` : 'contains all that it must';
  return { pass: missing.length === 0, score: missing.length ? 0 : 1, reason };
};
