//! Texts of four kinds, written for these tests and put together at random: prose, code, JSON, Chinese.

/// A small generator of numbers (xorshift64*): the tests are the same every time.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound.max(1)
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list.get(self.below(list.len())).copied().unwrap_or("")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Prose,
    Code,
    Json,
    Chinese,
}

pub(crate) const KINDS: [Kind; 4] = [Kind::Prose, Kind::Code, Kind::Json, Kind::Chinese];

/// A text of this kind of about `bytes` bytes, never much shorter.
pub(crate) fn text(kind: Kind, bytes: usize, dice: &mut Dice) -> String {
    let mut text = String::new();
    while text.len() < bytes {
        match kind {
            Kind::Prose => {
                text.push_str(dice.of(PROSE));
                text.push_str(if dice.below(6) == 0 { "\n\n" } else { " " });
            }
            Kind::Code => {
                let name = format!("{}_{}", dice.of(VERBS), dice.of(NOUNS));
                let number = dice.below(4_000).to_string();
                text.push_str(&dice.of(CODE).replace("NAME", &name).replace("NUM", &number));
                text.push('\n');
            }
            Kind::Json => json(&mut text, dice),
            Kind::Chinese => {
                text.push_str(dice.of(CHINESE));
                if dice.below(6) == 0 {
                    text.push('\n');
                }
            }
        }
    }
    text
}

fn json(text: &mut String, dice: &mut Dice) {
    let (id, price, hour, day) =
        (dice.below(900_000), dice.below(90_000), dice.below(24), 1 + dice.below(28));
    text.push_str(&format!(
        "{{\"id\": {id}, \"{}\": \"{} {}\", \"price\": {}.{:02}, \"created_at\": \"2025-03-{day:02}T{hour:02}:41:07Z\", \
         \"tags\": [\"{}\", \"{}\"], \"{}\": {{\"active\": {}, \"note\": \"{}\", \"parent\": null}}}},\n",
        dice.of(NOUNS), dice.of(VERBS), dice.of(NOUNS), price / 100, price % 100, dice.of(NOUNS), dice.of(VERBS),
        dice.of(NOUNS), dice.below(2) == 0, dice.of(PROSE).split(',').next().unwrap_or("")
    ));
}

const VERBS: &[&str] = &[
    "load",
    "parse",
    "merge",
    "release",
    "acquire",
    "encode",
    "forward",
    "resolve",
    "compact",
    "validate",
    "schedule",
    "render",
    "observe",
    "drain",
    "normalize",
];

const NOUNS: &[&str] = &[
    "window",
    "customer",
    "buffer",
    "ledger",
    "replica",
    "session",
    "header",
    "invoice",
    "segment",
    "shipment",
    "snapshot",
    "address",
    "threshold",
    "attachment",
    "queue",
];

const PROSE: &[&str] = &[
    "The library opens at nine in the morning, but the reading room on the second floor stays closed until the heating works again.",
    "When my grandfather sold the boat, he kept the compass and the old charts, and nobody was allowed to touch them.",
    "Please read the attached report and write a short summary for the board, with the three risks that you consider most urgent.",
    "Photosynthesis turns light, water and carbon dioxide into sugar; without it there would be hardly any oxygen in the air.",
    "I have tried to restart the router twice, and the light still blinks orange after a few minutes.",
    "It rained so hard on Thursday that the lower streets were flooded and the market had to be moved to the school yard.",
    "A contract is formed when an offer is accepted, provided that both sides intend to be bound by it.",
    "She laughed, put the letter back into its envelope and said that some questions answer themselves if one waits.",
    "Compare the two proposals below, explain which one is cheaper over five years, and list every assumption that you make.",
    "The orchestra rehearsed the slow movement again and again, because the conductor was not satisfied with the horns.",
    "Bread dough needs time: mix flour, water, salt and a little yeast, and let it rest overnight in a cool place.",
    "Between 1850 and 1900 the population of the town grew from four thousand to more than sixty thousand people.",
    "Could you translate this paragraph into plain English and keep the names of the medicines as they are?",
    "Our flight was cancelled, so we took a night train through the mountains and arrived with the first sun.",
    "Nobody knew who had painted the mural, although a faded signature could be seen in the corner near the staircase.",
    "In economics, an externality is a cost or a benefit that falls on someone who did not choose to take part in a trade.",
    "You are a careful assistant. Answer only from the documents that are given, and say so when they do not contain the answer.",
    "The new bridge carries two lanes, a tram line and a wide path for people who walk or ride a bicycle.",
];

const CHINESE: &[&str] = &[
    "图书馆每天早上九点开门，不过二楼的阅览室要等暖气修好以后才能使用。",
    "请阅读附件中的报告，为董事会写一份简短的摘要，并指出三个最紧迫的风险。",
    "昨天夜里下了一场大雨，河边的几条街道都被淹了，集市只好搬到学校的操场上。",
    "光合作用把阳光、水和二氧化碳变成糖分，没有它，空气中几乎不会有氧气。",
    "我已经把路由器重启了两次，可是过了几分钟，指示灯还是不停地闪烁。",
    "爷爷卖掉那条船的时候，留下了罗盘和旧海图，谁也不许碰。",
    "这座新桥有两条车道、一条电车轨道，还有一条供行人和自行车使用的宽阔小路。",
    "请比较下面两个方案，说明哪一个在五年内更便宜，并列出你所作的全部假设。",
    "面团需要时间：把面粉、水、盐和少量酵母混合，放在阴凉的地方过一夜。",
    "服务器收到请求以后，先确认用户的身份，再计算剩余的额度，最后决定是否处理。",
    "我们的航班取消了，于是坐夜车穿过群山，在日出时到达了目的地。",
    "没有人知道那幅壁画是谁画的，虽然楼梯旁边的角落里还能看到模糊的签名。",
    "合同在要约被接受时成立，前提是双方都愿意受其约束。",
    "乐团一遍又一遍地排练慢板乐章，因为指挥对圆号的声音不满意。",
    "她笑了笑，把信放回信封，说有些问题只要等一等就会自己得到答案。",
    "一八五〇年到一九〇〇年之间，这个小镇的人口从四千增加到六万多。",
];

const CODE: &[&str] = &[
    "fn NAME(input: &[u8], limit: usize) -> Result<Vec<u8>, Error> {\n    let mut out = Vec::with_capacity(limit);\n    for byte in input.iter().take(NUM) {\n        out.push(byte ^ 0x5a);\n    }\n    Ok(out)\n}\n",
    "def NAME(self, items, timeout=NUM):\n    \"\"\"Return the items that arrived before the timeout.\"\"\"\n    ready = [item for item in items if item.age < timeout]\n    if not ready:\n        raise ValueError(f\"nothing after {timeout} ms\")\n    return sorted(ready, key=lambda item: item.rank)\n",
    "impl NAME {\n    /// Counts what is left, at most NUM.\n    pub fn remaining(&self) -> u64 {\n        self.total.saturating_sub(self.used).min(NUM)\n    }\n}\n",
    "async function NAME(request, response) {\n  const { id, name } = await request.json();\n  const row = await db.query('SELECT * FROM orders WHERE id = $1', [id]);\n  if (!row) {\n    return response.status(404).send({ error: `no order ${id}` });\n  }\n  cache.set(name, row, NUM);\n  return response.json(row);\n}\n",
    "static int NAME(struct queue *q, size_t n)\n{\n\tif (q->len + n > NUM)\n\t\treturn -ENOSPC;\n\tfor (size_t i = 0; i < n; i++)\n\t\tq->slot[(q->head + i) % q->cap] = NULL;\n\treturn 0;\n}\n",
    "#[test]\nfn NAME_is_bounded() {\n    let state = State::new(NUM);\n\n    let result = state.apply(&[1, 2, 3]);\n\n    assert_eq!(result.len(), 3, \"every entry counts\");\n}\n",
    "SELECT c.name, SUM(o.amount) AS total\nFROM customers c\nJOIN orders o ON o.customer_id = c.id\nWHERE o.created_at >= '2024-01-01' AND o.amount > NUM\nGROUP BY c.name\nORDER BY total DESC;\n",
    "type NAME struct {\n\tmu    sync.Mutex\n\titems map[string]int\n}\n\nfunc (s *NAME) Add(key string, n int) error {\n\ts.mu.Lock()\n\tdefer s.mu.Unlock()\n\tif len(s.items) > NUM {\n\t\treturn errors.New(\"full\")\n\t}\n\ts.items[key] += n\n\treturn nil\n}\n",
];
