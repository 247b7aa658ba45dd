// The WebSocket of browsers: stable in k6 since 1.6, experimental (and the same code) before. CommonJS, because only
// `require` can be tried, and in a file of its own, because k6 wants the two kinds of modules apart.
module.exports = (() => {
  try {
    return require('k6/websockets');
  } catch (_) {
    return require('k6/experimental/websockets');
  }
})();
