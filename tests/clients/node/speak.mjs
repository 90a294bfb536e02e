// Calls the gateway with the JavaScript SDKs, as told on standard input: one JSON object a line, one answer a line.
//
//   {"id": 1, "client": "openai-node", "api": "chat", "url": "http://…", "key": "…", "model": "…", "text": "…",
//    "tokens": 20, "stream": true, "tier": "priority", "user": "sim:…", "retries": 1}
//
// The answer says what the SDK's user saw: text, finish, usage, tier, the error; and every HTTP answer that came by.

import readline from "node:readline";
import OpenAI from "openai";
import Anthropic from "@anthropic-ai/sdk";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText } from "ai";

/** A `fetch` that notes the head of every answer. */
function noting(answers) {
  return async (url, init) => {
    const answer = await fetch(url, init);
    answers.push({ at: Date.now() / 1000, status: answer.status, headers: Object.fromEntries(answer.headers) });
    return answer;
  };
}

const openai = (ask, answers) =>
  new OpenAI({ apiKey: ask.key, baseURL: `${ask.url}/v1`, maxRetries: ask.retries, fetch: noting(answers) });

const calls = {
  "openai-node": {
    async chat(ask, seen, answers) {
      const body = {
        model: ask.model,
        messages: [{ role: "user", content: ask.text }],
        max_tokens: ask.tokens,
        ...(ask.tier && { service_tier: ask.tier }),
        ...(ask.user && { user: ask.user }),
      };
      if (!ask.stream) {
        const answer = await openai(ask, answers).chat.completions.create(body);
        seen.text = answer.choices[0].message.content;
        seen.finish = answer.choices[0].finish_reason;
        chatUsage(seen, answer);
        return;
      }
      const options = { stream: true, stream_options: { include_usage: true } };
      for await (const chunk of await openai(ask, answers).chat.completions.create({ ...body, ...options })) {
        seen.text += chunk.choices[0]?.delta?.content ?? "";
        seen.finish = chunk.choices[0]?.finish_reason ?? seen.finish;
        chatUsage(seen, chunk);
      }
    },

    async completions(ask, seen, answers) {
      const body = {
        model: ask.model,
        prompt: ask.text,
        max_tokens: ask.tokens,
        ...(ask.tier && { service_tier: ask.tier }),
        ...(ask.user && { user: ask.user }),
      };
      if (!ask.stream) {
        const answer = await openai(ask, answers).completions.create(body);
        seen.text = answer.choices[0].text;
        seen.finish = answer.choices[0].finish_reason;
        chatUsage(seen, answer);
        return;
      }
      const options = { stream: true, stream_options: { include_usage: true } };
      for await (const chunk of await openai(ask, answers).completions.create({ ...body, ...options })) {
        seen.text += chunk.choices[0]?.text ?? "";
        seen.finish = chunk.choices[0]?.finish_reason ?? seen.finish;
        chatUsage(seen, chunk);
      }
    },

    async responses(ask, seen, answers) {
      const body = {
        model: ask.model,
        input: ask.text,
        max_output_tokens: ask.tokens,
        ...(ask.tier && { service_tier: ask.tier }),
        ...(ask.user && { user: ask.user }),
      };
      if (!ask.stream) {
        const answer = await openai(ask, answers).responses.create(body);
        seen.text = answer.output_text;
        responseEnd(seen, answer);
        return;
      }
      for await (const event of await openai(ask, answers).responses.create({ ...body, stream: true })) {
        if (event.type === "response.output_text.delta") seen.text += event.delta;
        if (event.type === "response.completed" || event.type === "response.incomplete") responseEnd(seen, event.response);
        if (event.type === "response.failed" || event.type === "error") throw new Error(`event ${event.type}`);
      }
    },
  },

  "anthropic-node": {
    async messages(ask, seen, answers) {
      const client = new Anthropic({
        apiKey: ask.key,
        baseURL: ask.url,
        maxRetries: ask.retries,
        fetch: noting(answers),
      });
      const body = {
        model: ask.model,
        messages: [{ role: "user", content: ask.text }],
        max_tokens: ask.tokens,
        ...(ask.tier && { service_tier: ask.tier }),
        ...(ask.user && { metadata: { user_id: ask.user } }),
      };
      if (!ask.stream) {
        messageEnd(seen, await client.messages.create(body));
        return;
      }
      const stream = client.messages.stream(body);
      stream.on("text", (text) => (seen.text += text));
      const text = await stream.finalMessage();
      messageEnd(seen, text);
    },
  },

  "vercel-ai": {
    async chat(ask, seen, answers) {
      const provider = createOpenAICompatible({
        name: "tidegate",
        baseURL: `${ask.url}/v1`,
        apiKey: ask.key,
        includeUsage: true,
        fetch: noting(answers),
      });
      const call = {
        model: provider(ask.model),
        prompt: ask.text,
        maxOutputTokens: ask.tokens,
        maxRetries: ask.retries,
        providerOptions: {
          tidegate: { ...(ask.tier && { service_tier: ask.tier }), ...(ask.user && { user: ask.user }) },
        },
      };
      if (!ask.stream) {
        const answer = await generateText({ ...call, include: { responseBody: true } });
        seen.text = answer.text;
        seen.finish = answer.finishReason;
        seen.prompt = answer.usage.inputTokens;
        seen.completion = answer.usage.outputTokens;
        seen.tier = answer.response.body?.service_tier;
        return;
      }
      const stream = streamText({ ...call, includeRawChunks: true, onError() {} });
      for await (const part of stream.fullStream) {
        if (part.type === "text-delta") seen.text += part.text ?? part.delta ?? "";
        if (part.type === "raw") seen.tier = part.rawValue?.service_tier ?? seen.tier;
        if (part.type === "error") throw part.error;
        if (part.type === "finish") {
          seen.finish = part.finishReason;
          seen.prompt = part.totalUsage.inputTokens;
          seen.completion = part.totalUsage.outputTokens;
        }
      }
    },
  },
};

function chatUsage(seen, part) {
  seen.tier = part.service_tier ?? seen.tier;
  seen.prompt = part.usage?.prompt_tokens ?? seen.prompt;
  seen.completion = part.usage?.completion_tokens ?? seen.completion;
}

function responseEnd(seen, response) {
  seen.finish = response.incomplete_details?.reason ?? response.status;
  seen.tier = response.service_tier;
  seen.prompt = response.usage?.input_tokens;
  seen.completion = response.usage?.output_tokens;
}

function messageEnd(seen, message) {
  seen.text = message.content.map((block) => block.text ?? "").join("");
  seen.finish = message.stop_reason;
  seen.tier = message.usage.service_tier;
  seen.prompt = message.usage.input_tokens;
  seen.completion = message.usage.output_tokens;
}

/** What went wrong, in the words of all SDKs alike. */
function fault(error) {
  // The Vercel SDK wraps what its retries met.
  const last = error.lastError ?? error;
  const inner = last.data?.error ?? last.error?.error ?? last.error ?? {};
  return {
    kind: last.name === "Error" ? last.constructor.name : (last.constructor?.name ?? last.name),
    status: last.status ?? last.statusCode ?? null,
    type: last.type ?? inner.type ?? null,
    code: last.code ?? inner.code ?? null,
    message: String(last.message),
  };
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const ask = JSON.parse(line);
  const seen = { id: ask.id, text: "", answers: [] };
  calls[ask.client][ask.api](ask, seen, seen.answers)
    .catch((error) => (seen.error = fault(error)))
    .finally(() => process.stdout.write(`${JSON.stringify(seen)}\n`));
}
