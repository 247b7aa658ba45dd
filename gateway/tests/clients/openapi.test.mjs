// What the internal listener says of its routes under /v1/, by the schema of OpenAPI 3.1 and by trying it.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Validator } from '@seriousme/openapi-schema-validator';
import Ajv from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { Gateway, beforeAll } from './support.mjs';

describe('the description of the server API', () => {
  let gateway;
  let openapi;
  let ajv;
  beforeAll(async (t) => {
    gateway = await Gateway.serve(t);
    const response = await fetch(`${gateway.internalUrl}/openapi.json`);
    assert.equal(response.headers.get('content-type'), 'application/json');
    openapi = await response.json();
    ajv = new Ajv({ strict: false });
    addFormats(ajv);
    ajv.addSchema(openapi, 'openapi');
  });

  /** Asserts that `value` is what the description says at `path`, keys of it from the root on. */
  function fits(value, ...path) {
    const pointer = path.map((key) => encodeURIComponent(`${key}`.replaceAll('~', '~0').replaceAll('/', '~1'))).join('/');
    const validate = ajv.compile({ $ref: `openapi#/${pointer}` });
    assert.ok(validate(value), `${JSON.stringify(value)}: ${ajv.errorsText(validate.errors)}`);
  }

  /** Every operation, with its path, its verb, and where it is. */
  function operations() {
    return Object.entries(openapi.paths).flatMap(([path, verbs]) =>
      Object.entries(verbs).map(([verb, operation]) => ({ path, verb, operation, at: ['paths', path, verb] })));
  }

  const bodyAt = ['requestBody', 'content', 'application/json'];
  const request = (verb, body, headers) => ({ method: verb.toUpperCase(), body, headers: { 'Content-Type': 'application/json', ...headers } });

  test('is of OpenAPI 3.1', async () => {
    const validator = new Validator();
    const { valid, errors } = await validator.validate(structuredClone(openapi));
    assert.ok(valid, JSON.stringify(errors));
    assert.equal(validator.version, '3.1');
    assert.ok(operations().length > 0);
  });

  test('has examples that are taken, with answers as it says', async () => {
    for (const { path, verb, operation, at } of operations()) {
      const examples = Object.entries(operation.requestBody.content['application/json'].examples);
      assert.ok(examples.length > 0, path);
      for (const [name, { value }] of examples) {
        fits(value, ...at, ...bodyAt, 'schema');
        const response = await fetch(gateway.internalUrl + path, request(verb, JSON.stringify(value), { 'X-API-Key': gateway.apiKey }));
        assert.equal(response.status, 201, name);
        fits(await response.json(), ...at, 'responses', '201', 'content', 'application/json', 'schema');
      }
      const answer = operation.responses['201'].content['application/json'];
      fits(answer.example, ...at, 'responses', '201', 'content', 'application/json', 'schema');
    }
  });

  test('has the ways in which a key may come, and the problem of who has none', async () => {
    const { apiKey, bearer } = openapi.components.securitySchemes;
    for (const { path, verb } of operations()) {
      const keys = [{ [apiKey.name]: gateway.apiKey }, { Authorization: `${bearer.scheme} ${gateway.apiKey}` }];
      for (const key of keys) {
        const response = await fetch(gateway.internalUrl + path, request(verb, '{}', key));
        assert.equal(response.status, 400);
        fits(await response.json(), 'components', 'schemas', 'Problem');
      }
      const response = await fetch(gateway.internalUrl + path, request(verb, '{}', {}));
      assert.equal(response.status, 401);
      assert.equal(response.headers.get('content-type'), 'application/problem+json');
      fits(await response.json(), 'components', 'schemas', 'Problem');
    }
  });

  test('refuses what the gateway refuses', async () => {
    for (const body of [{}, { user: '42', token_id: 'a' }, { token_id: 'a', issued_before: 1 }, { users: '42' }, { token_id: '' }, { user: '' }, { user: '42', expire_at: 1.5 }]) {
      assert.throws(() => fits(body, 'components', 'schemas', 'Revocation'), JSON.stringify(body));
      const response = await fetch(`${gateway.internalUrl}/v1/revocations`, request('post', JSON.stringify(body), { 'X-API-Key': gateway.apiKey }));
      assert.equal(response.status, 400, JSON.stringify(body));
    }
  });
});
