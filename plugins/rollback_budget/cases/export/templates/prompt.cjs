// The prompt of a case. Made by: rollback-budget debt export promptfoo
// promptfoo renders what is returned once more as a template: braces are written so that they come out as they are,
// and the empty expression keeps it from being taken for JSON.
const escaped = (text) => '{{ "" }}' + text.replace(/[{}]/g, (brace) => `{{ "${brace}" }}`);

module.exports = ({ vars }) => {
  const { input } = JSON.parse(Buffer.from(vars.case, 'base64').toString('utf8'));
  return escaped(typeof input === 'string' ? input : JSON.stringify(input));
};
