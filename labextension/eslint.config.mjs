import tseslint from 'typescript-eslint';

export default tseslint.config(...tseslint.configs.strict, {
  files: ['src/**/*.ts', 'src/**/*.tsx'],
  rules: {
    // Text from outside is shown by React as text; no other way into the page.
    'no-restricted-properties': [
      'error',
      ...['innerHTML', 'outerHTML', 'insertAdjacentHTML', 'srcdoc'].map(property => ({ property, message: 'Text only.' }))
    ],
    'no-restricted-syntax': ['error', { selector: "JSXAttribute[name.name='dangerouslySetInnerHTML']", message: 'Text only.' }]
  }
});
