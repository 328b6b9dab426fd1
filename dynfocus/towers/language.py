"""The language model of the embedded world."""
import time
import numpy as np, torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from tqdm import tqdm
from dynfocus.towers.muon import Muon
from dynfocus.prompts import TEMPLATES, Turn, encode, expand, IMAGE
from dynfocus.towers.scenes import *
from dynfocus.towers.settings import LanguageSettings

VISUAL = 85


class Rows:
    def __init__(self, tok, s: LanguageSettings):
        self.tok, self.s = tok, s
        self.painter = Painter(tok.get_vocab())
        self.image_id = tok.convert_tokens_to_ids(IMAGE)

    def sample(self, turns, template, weights, rng) -> Sample:
        place = "before" if rng.random() < 0.6 else "after"
        e = encode(self.tok, turns, TEMPLATES[template], weights is not None, place)
        if weights is not None:
            e = expand(e, self.image_id, [len(weights)])
        else:
            weights = np.zeros((0, self.painter.size + 1), np.float32)
        return Sample(weights.astype(np.float16), np.array(e.input_ids), np.array(e.labels))

    def turns(self, qs):
        return [Turn(q.text, q.answer) for q in qs]

    def image(self, seed, i):
        rng = generator(seed, i, 2); im = sample_image(seed, i)
        w = self.painter.stream(im, rng)
        if rng.random() < 0.2:
            if rng.random() < 0.5:
                return self.sample([Turn("", caption(im))], "plain", w, rng)
            return self.sample([Turn(str(rng.choice(IMAGE_REQUESTS)), caption(im))], "vicuna_v1_short", w, rng)
        return self.sample(self.turns(image_questions(im, rng)), "vicuna_v1_short", w, rng)

    def video(self, seed, i):
        s = self.s
        rng = generator(seed, i, 3); v = sample_video(seed, i)
        w = self.painter.stream(v, rng)
        qs = video_questions(v, rng, things=s.things, times=s.times)
        texts = {q.text for q in qs}
        for _ in range(s.extra):
            q = about_time(str(rng.choice(["after", "count"])), v, rng)
            if q.text not in texts:
                texts.add(q.text); qs.insert(int(rng.integers(len(qs) + 1)), q)
        return self.sample(self.turns(qs), "vicuna_v1_short", w, rng)

    def caption(self, seed, i):
        rng = generator(seed, i, 4); v = sample_video(seed, i)
        w = self.painter.stream(v, rng)
        if rng.random() < 0.5:
            return self.sample([Turn("", caption(v))], "plain", w, rng)
        return self.sample([Turn(str(rng.choice(VIDEO_REQUESTS)), caption(v))], "vicuna_v1_short", w, rng)

    def text(self, seed, i):
        rng = generator(seed, i, 5); im = sample_image(seed, i)
        qs = image_questions(im, rng)
        t = [Turn(described(im, qs[0]), qs[0].answer)] + self.turns(qs[1:])
        return self.sample(t, "vicuna_v1_short", None, rng)

    def order(self, seed, i):
        """short: places alone, few frames."""
        rng = generator(seed, i, 6); v = sample_video(seed, i)
        if rng.random() < 0.3:
            qs = self.time_questions(v, rng, 4)
            story = " then ".join(v.places)
            t = [Turn(f"{story} . {qs[0].text}", qs[0].answer)] + self.turns(qs[1:])
            return self.sample(t, "vicuna_v1_short", None, rng)
        # a shortened film: 1-3 frames for each scene, rods alone
        w = self.short(v, rng)
        if rng.random() < 0.25:
            return self.sample([Turn("", " then ".join(v.places))], "plain", w, rng)
        return self.sample(self.turns(self.time_questions(v, rng, 6)), "vicuna_v1_short", w, rng)

    def short(self, v, rng):
        rows = []
        for sc in v.scenes:
            for t in range(sc.start, sc.start + int(rng.integers(1, 4))):
                rows.append(self.painter.frame(v, t, False, rng))
        return np.concatenate(rows)

    def time_questions(self, v, rng, n):
        out = {}
        for _ in range(n):
            q = about_time(str(rng.choice(["first", "last", "after", "after", "count", "count"])), v, rng)
            out[q.text] = q
        return list(out.values())


def build(tok, s: LanguageSettings):
    cfg = LlamaConfig(vocab_size=len(tok), hidden_size=s.width, intermediate_size=s.hidden, num_hidden_layers=s.layers,
                      num_attention_heads=s.heads, num_key_value_heads=s.heads, max_position_embeddings=2048,
                      initializer_range=s.init, tie_word_embeddings=s.tie, bos_token_id=tok.bos_token_id,
                      eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id, use_cache=False, rope_parameters={"rope_type": "default", "rope_theta": s.theta})
    return LlamaForCausalLM(cfg)


def collate(samples, pad, image_id, gen=None):
    n = max(len(s.ids) for s in samples)
    ids = np.full((len(samples), n), pad); labels = np.full((len(samples), n), -100)
    for i, s in enumerate(samples):
        ids[i, :len(s.ids)] = s.ids; labels[i, :len(s.ids)] = s.labels
    w = np.concatenate([s.weights for s in samples]).astype(np.float32)
    return torch.from_numpy(ids), torch.from_numpy(labels), torch.from_numpy(w)


def embed(model, ids, w, image_id, noise=True):
    table = model.get_input_embeddings().weight
    x = torch.nn.functional.embedding(ids, table)
    if len(w):
        if noise:
            w = w * torch.empty(len(w), 1).uniform_(0.7, 1.3)
            w = w * (torch.rand(len(w), 1) > 0.02)
        scale = table.detach().std() * 1.5
        v = w[:, :-1] @ table + scale * w[:, -1:] * torch.randn(len(w), table.shape[1])
        x = x.masked_scatter((ids == image_id)[..., None], v) if False else x.index_put(((ids == image_id).nonzero(as_tuple=True)), v)
    return x


def logits_at_labels(model, x, labels):
    h = model.model(inputs_embeds=x, use_cache=False).last_hidden_state[:, :-1]
    keep = labels[:, 1:] != -100
    return model.lm_head(h[keep]), labels[:, 1:][keep]


@torch.no_grad()
def evaluate(model, tok, s, seed=900_000, n=None, short=False):
    """teacher forced accuracy of each type's deciding word"""
    model.eval(); rows = Rows(tok, s); n = n or s.held_out
    ok = {}
    image_id = rows.image_id
    torch.manual_seed(0)
    for lo in range(0, n, 40):
        samples, questions = [], []
        for i in range(lo, min(n, lo + 40)):
            rng = generator(seed, i, 3); v = sample_video(seed, i)
            w = rows.painter.stream(v, rng)
            qs = video_questions(v, rng, things=4, times=4)
            if short:
                w = rows.short(v, rng); qs = [q for q in qs if q.kind == "temporal"]
            samples.append(rows.sample(rows.turns(qs), "vicuna_v1_short", w, rng)); questions.append(qs)
        ids, labels, w = collate(samples, tok.pad_token_id, image_id)
        x = embed(model, ids, w, image_id, noise=False)
        h = model.model(inputs_embeds=x, use_cache=False).last_hidden_state
        pred = model.lm_head(h).argmax(-1)
        for b, qs in enumerate(questions):
            at = (labels[b] != -100).nonzero().flatten().tolist()
            assert len(at) == 3 * len(qs), (len(at), len(qs))
            for k, q in enumerate(qs):
                p = at[3 * k + 1]
                ok.setdefault(q.type, []).append(float(pred[b, p - 1] == labels[b, p]))
    model.train()
    return {k: float(np.mean(v)) for k, v in sorted(ok.items())}


def train(s: LanguageSettings, tok, seed=0, log=None, every=200, budget=None):
    torch.manual_seed(seed); rng = np.random.default_rng(seed)
    rows = Rows(tok, s); image_id = rows.image_id
    t0 = time.time()
    base = 1_000_000 + seed
    shares = {"video": 1 - s.share_image - s.share_text - s.share_caption - s.share_order, "image": s.share_image, "text": s.share_text,
              "caption": s.share_caption, "order": s.share_order}
    early = {"image": 0.9 - s.early_order, "text": 0.1, "order": s.early_order}
    need = {k: int(s.pool * max(v, early.get(k, 0) * s.first)) for k, v in shares.items()}
    pool = {k: [getattr(rows, k)(base, i) for i in range(n)] for k, n in need.items() if n}
    t1 = time.time()
    model = build(tok, s)
    params = list(model.parameters())
    if s.muon:
        hid = [p for n, p in model.named_parameters() if p.ndim == 2 and "layers" in n]
        ids_ = {id(p) for p in hid}
        rest = [p for p in params if id(p) not in ids_]
        opts = [Muon(hid, lr=s.muon_rate),
                torch.optim.AdamW(rest, lr=s.rate, betas=(0.9, 0.98), weight_decay=0.0)]
    else:
        opts = [torch.optim.AdamW(params, lr=s.rate, betas=(0.9, 0.98), weight_decay=s.decay)]
    scheds = [torch.optim.lr_scheduler.OneCycleLR(o, [g["lr"] for g in o.param_groups], total_steps=s.steps, pct_start=s.warm,
              cycle_momentum=False, anneal_strategy=s.anneal, final_div_factor=100) for o in opts]
    losses = []; tdata = 0
    for step in range(s.steps):
        a = time.time()
        mix = early if step < s.first * s.steps else shares
        names = [k for k in mix if k in pool]; p = np.array([mix[k] for k in names]); p = p / p.sum()
        kind = names[rng.choice(len(names), p=p)]
        batch = s.batch if kind in ("video", "caption") else s.batch * 2
        chosen = [pool[kind][j] for j in rng.integers(len(pool[kind]), size=batch)]
        ids, labels, w = collate(chosen, tok.pad_token_id, image_id)
        tdata += time.time() - a
        x = embed(model, ids, w, image_id)
        out, y = logits_at_labels(model, x, labels)
        loss = nn.functional.cross_entropy(out, y)
        loss.backward()
        nn.utils.clip_grad_norm_(params, s.clip)
        for o, c in zip(opts, scheds): o.step(); c.step(); o.zero_grad()
        losses.append((kind, loss.item()))
        if every and (step + 1) % every == 0:
            ev = evaluate(model, tok, s, n=80)
            rec = {k: np.mean([l for kk, l in losses[-every:] if kk == k]) for k in names}
            print(f"{step+1:5d} {time.time()-t0:5.0f}s pool {t1-t0:.0f} data {tdata:.0f}", {k: round(float(v), 3) for k, v in rec.items()}, {k: round(v, 2) for k, v in ev.items()}, {k: round(v, 2) for k, v in evaluate(model, tok, s, n=80, short=True).items()}, flush=True)
    return model, losses
