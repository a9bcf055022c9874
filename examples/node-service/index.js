const express = require('express');
const log = require('pino')();

const app = express();
app.get('/', (_, res) => res.send('hello\n'));
app.listen(8080, () => log.info('listening on 8080'));
