"""A server as one writes it in an afternoon: FastAPI around the same model in PyTorch, an image at a time.

    python -m benchmarks.contenders.plain_server FILE PORT
"""
import io
import sys

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from PIL import Image

from vit import hub


def make(path: str) -> FastAPI:
    """Give the application of a file's model; images are normalized to [-1, 1]."""
    model = hub.from_pretrained(path).eval()
    size, app = model.config.image_size, FastAPI()

    def classify(body: bytes) -> list[dict]:
        try:
            image = Image.open(io.BytesIO(body)).convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
        except OSError:
            raise HTTPException(422, "no image") from None
        x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.inference_mode():
            found = model(x).softmax(-1)[0].topk(5)
        return [{"class": str(index), "probability": value}
                for index, value in zip(found.indices.tolist(), found.values.tolist(), strict=True)]

    @app.post("/predict")
    async def predict(request: Request):
        return {"predictions": await run_in_threadpool(classify, await request.body())}

    return app


if __name__ == "__main__":
    uvicorn.run(make(sys.argv[1]), port=int(sys.argv[2]), http="h11", loop="asyncio", log_level="error")
