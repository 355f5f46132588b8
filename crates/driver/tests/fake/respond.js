// The body of function (init, body, end, signal): a response whose body closes, hangs or breaks.
const pull = (controller) => {
  if (body.length > 0) {
    controller.enqueue(body);
    body = new Uint8Array();
  } else if (end === 'close') {
    controller.close();
    controller.byobRequest?.respond(0);
  } else if (end === 'break') {
    controller.error(new TypeError('terminated'));
  } else {
    return new Promise((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason));
    });
  }
};
return new Response(new ReadableStream({ type: 'bytes', pull }), init);
