"""Cells of notebooks, each after a public tutorial: code over several cells, globals, closures, a local module, both names of Lightning.

The data are small and made here where the tutorial downloads something; the last cell is the magic, and nothing else is ours.
"""

from __future__ import annotations

from jupyter_mlp.store import gpus

RANKS = min(2, gpus.count() or 2)  # of the tutorial that trains in several processes
_TRAIN = "%mlp_train {} --max-epochs 1 --detach"

_MLP = [
    "import lightning as L\nimport torch\nimport torch.nn.functional as F\nfrom torch import nn\nfrom blocks import dense",
    "HIDDEN = 32\nLEARNING_RATE = 1e-3",
    """
def make_loss(smoothing):
    def loss(logits, y):
        return F.cross_entropy(logits, y, label_smoothing=smoothing)
    return loss

criterion = make_loss(0.1)
""",
    """
class LitClassifier(L.LightningModule):
    def __init__(self, hidden=HIDDEN):
        super().__init__()
        self.save_hyperparameters()
        self.layers = nn.Sequential(dense(64, hidden), dense(hidden, hidden), nn.Linear(hidden, 10))

    def forward(self, x):
        return self.layers(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = criterion(self(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_acc", (self(x).argmax(1) == y).float().mean(), prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=LEARNING_RATE)
""",
    _TRAIN.format("LitClassifier --data digits --target digit --task multiclass --batch-size 64"),
]

_AUTOENCODER = [
    "import os\nimport torch\nfrom torch import nn, optim, utils, Tensor\nimport lightning as L",
    "encoder = nn.Sequential(nn.Linear(8 * 8, 64), nn.ReLU(), nn.Linear(64, 3))\n"
    "decoder = nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 8 * 8))",
    """
class LitAutoEncoder(L.LightningModule):
    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def training_step(self, batch, batch_idx):
        x, _ = batch
        x = x.view(x.size(0), -1)
        z = self.encoder(x)
        x_hat = self.decoder(z)
        loss = nn.functional.mse_loss(x_hat, x)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return optim.Adam(self.parameters(), lr=1e-3)


autoencoder = LitAutoEncoder(encoder, decoder)
""",
    """
from sklearn.datasets import load_digits
images = torch.tensor(load_digits().images, dtype=torch.float32) / 16
dataset = utils.data.TensorDataset(images, torch.zeros(len(images)))
train_loader = utils.data.DataLoader(dataset, batch_size=64, shuffle=True)
""",
    _TRAIN.format("autoencoder --data train_loader"),
]

_GAN = [
    "import numpy as np\nimport torch\nimport torch.nn as nn\nimport torch.nn.functional as F\nimport pytorch_lightning as pl\n"
    "from torch.utils.data import DataLoader, TensorDataset, random_split\n\nBATCH_SIZE = 64",
    """
class DigitsDataModule(pl.LightningDataModule):
    def __init__(self, batch_size: int = BATCH_SIZE):
        super().__init__()
        self.batch_size = batch_size
        self.dims = (1, 8, 8)

    def prepare_data(self):
        from sklearn.datasets import load_digits
        load_digits()

    def setup(self, stage=None):
        from sklearn.datasets import load_digits
        images = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 8 - 1
        self.train, self.val = random_split(TensorDataset(images, torch.zeros(len(images))), [1600, 197])

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=self.batch_size)

    def val_dataloader(self):
        return DataLoader(self.val, batch_size=self.batch_size)
""",
    """
class Generator(nn.Module):
    def __init__(self, latent_dim, img_shape):
        super().__init__()
        self.img_shape = img_shape

        def block(in_feat, out_feat, normalize=True):
            layers = [nn.Linear(in_feat, out_feat)]
            if normalize:
                layers.append(nn.BatchNorm1d(out_feat, 0.8))
            layers.append(nn.LeakyReLU(0.01, inplace=True))
            return layers

        self.model = nn.Sequential(
            *block(latent_dim, 32, normalize=False), *block(32, 64), nn.Linear(64, int(np.prod(img_shape))), nn.Tanh()
        )

    def forward(self, z):
        img = self.model(z)
        return img.view(img.size(0), *self.img_shape)


class Discriminator(nn.Module):
    def __init__(self, img_shape):
        super().__init__()
        self.model = nn.Sequential(nn.Linear(int(np.prod(img_shape)), 64), nn.LeakyReLU(0.2), nn.Linear(64, 1), nn.Sigmoid())

    def forward(self, img):
        return self.model(img.view(img.size(0), -1))
""",
    """
class GAN(pl.LightningModule):
    def __init__(self, channels=1, width=8, height=8, latent_dim: int = 16, lr: float = 0.0002, b1: float = 0.5, b2: float = 0.999):
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        data_shape = (channels, width, height)
        self.generator = Generator(latent_dim=self.hparams.latent_dim, img_shape=data_shape)
        self.discriminator = Discriminator(img_shape=data_shape)
        self.validation_z = torch.randn(8, self.hparams.latent_dim)
        self.example_input_array = torch.zeros(2, self.hparams.latent_dim)

    def forward(self, z):
        return self.generator(z)

    def adversarial_loss(self, y_hat, y):
        return F.binary_cross_entropy(y_hat, y)

    def training_step(self, batch):
        imgs, _ = batch
        optimizer_g, optimizer_d = self.optimizers()
        z = torch.randn(imgs.shape[0], self.hparams.latent_dim).type_as(imgs)

        self.toggle_optimizer(optimizer_g)
        self.generated_imgs = self(z)
        valid = torch.ones(imgs.size(0), 1).type_as(imgs)
        g_loss = self.adversarial_loss(self.discriminator(self(z)), valid)
        self.log("g_loss", g_loss, prog_bar=True)
        self.manual_backward(g_loss)
        optimizer_g.step()
        optimizer_g.zero_grad()
        self.untoggle_optimizer(optimizer_g)

        self.toggle_optimizer(optimizer_d)
        real_loss = self.adversarial_loss(self.discriminator(imgs), valid)
        fake = torch.zeros(imgs.size(0), 1).type_as(imgs)
        fake_loss = self.adversarial_loss(self.discriminator(self(z).detach()), fake)
        d_loss = (real_loss + fake_loss) / 2
        self.log("d_loss", d_loss, prog_bar=True)
        self.manual_backward(d_loss)
        optimizer_d.step()
        optimizer_d.zero_grad()
        self.untoggle_optimizer(optimizer_d)

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        lr, b1, b2 = self.hparams.lr, self.hparams.b1, self.hparams.b2
        opt_g = torch.optim.Adam(self.generator.parameters(), lr=lr, betas=(b1, b2))
        opt_d = torch.optim.Adam(self.discriminator.parameters(), lr=lr, betas=(b1, b2))
        return [opt_g, opt_d], []

    def on_validation_epoch_end(self):
        z = self.validation_z.type_as(self.generator.model[0].weight)
        self.sample_imgs = self(z)
""",
    "dm = DigitsDataModule()\nmodel = GAN(*dm.dims)",
    _TRAIN.format("model --data dm"),
]

_TRANSFORMER = [
    "import math\nimport torch\nfrom torch import nn\nimport torch.nn.functional as F\nimport torch.utils.data as data\nimport lightning as L",
    """
def scaled_dot_product(q, k, v, mask=None):
    d_k = q.size()[-1]
    attn_logits = torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(d_k)
    if mask is not None:
        attn_logits = attn_logits.masked_fill(mask == 0, -9e15)
    attention = F.softmax(attn_logits, dim=-1)
    return torch.matmul(attention, v), attention


class MultiheadAttention(nn.Module):
    def __init__(self, input_dim, embed_dim, num_heads):
        super().__init__()
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.qkv_proj = nn.Linear(input_dim, 3 * embed_dim)
        self.o_proj = nn.Linear(embed_dim, embed_dim)

    def forward(self, x, mask=None):
        batch_size, seq_length, _ = x.size()
        qkv = self.qkv_proj(x).reshape(batch_size, seq_length, self.num_heads, 3 * self.head_dim).permute(0, 2, 1, 3)
        q, k, v = qkv.chunk(3, dim=-1)
        values, attention = scaled_dot_product(q, k, v, mask=mask)
        return self.o_proj(values.permute(0, 2, 1, 3).reshape(batch_size, seq_length, self.embed_dim))
""",
    """
class EncoderBlock(nn.Module):
    def __init__(self, input_dim, num_heads, dim_feedforward, dropout=0.0):
        super().__init__()
        self.self_attn = MultiheadAttention(input_dim, input_dim, num_heads)
        self.linear_net = nn.Sequential(nn.Linear(input_dim, dim_feedforward), nn.Dropout(dropout), nn.ReLU(inplace=True),
                                        nn.Linear(dim_feedforward, input_dim))
        self.norm1, self.norm2 = nn.LayerNorm(input_dim), nn.LayerNorm(input_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, mask=None):
        x = self.norm1(x + self.dropout(self.self_attn(x, mask=mask)))
        return self.norm2(x + self.dropout(self.linear_net(x)))


class CosineWarmupScheduler(torch.optim.lr_scheduler._LRScheduler):
    def __init__(self, optimizer, warmup, max_iters):
        self.warmup, self.max_num_iters = warmup, max_iters
        super().__init__(optimizer)

    def get_lr(self):
        lr_factor = 0.5 * (1 + math.cos(math.pi * self.last_epoch / self.max_num_iters))
        if self.last_epoch <= self.warmup:
            lr_factor *= self.last_epoch * 1.0 / self.warmup
        return [base_lr * lr_factor for base_lr in self.base_lrs]
""",
    """
class ReverseDataset(data.Dataset):
    def __init__(self, num_categories, seq_len, size):
        super().__init__()
        self.num_categories, self.seq_len, self.size = num_categories, seq_len, size
        self.data = torch.randint(self.num_categories, size=(self.size, self.seq_len))

    def __len__(self):
        return self.size

    def __getitem__(self, idx):
        return self.data[idx], torch.flip(self.data[idx], dims=(0,))


from functools import partial
dataset = partial(ReverseDataset, 10, 16)
train_loader = data.DataLoader(dataset(512), batch_size=64, shuffle=True, drop_last=True, pin_memory=False)
val_loader = data.DataLoader(dataset(128), batch_size=64)
""",
    """
class ReversePredictor(L.LightningModule):
    def __init__(self, input_dim, model_dim, num_classes, num_heads, num_layers, lr, warmup, max_iters, dropout=0.0):
        super().__init__()
        self.save_hyperparameters()
        self.input_net = nn.Linear(input_dim, model_dim)
        self.transformer = nn.ModuleList([EncoderBlock(model_dim, num_heads, 2 * model_dim, dropout) for _ in range(num_layers)])
        self.output_net = nn.Linear(model_dim, num_classes)

    def forward(self, x):
        x = self.input_net(x)
        for layer in self.transformer:
            x = layer(x)
        return self.output_net(x)

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        lr_scheduler = CosineWarmupScheduler(optimizer, warmup=self.hparams.warmup, max_iters=self.hparams.max_iters)
        return [optimizer], [{"scheduler": lr_scheduler, "interval": "step"}]

    def _calculate_loss(self, batch, mode="train"):
        inp_data, labels = batch
        inp_data = F.one_hot(inp_data, num_classes=self.hparams.num_classes).float()
        preds = self.forward(inp_data)
        loss = F.cross_entropy(preds.view(-1, preds.size(-1)), labels.view(-1))
        acc = (preds.argmax(dim=-1) == labels).float().mean()
        self.log(f"{mode}_loss", loss)
        self.log(f"{mode}_acc", acc)
        return loss, acc

    def training_step(self, batch, batch_idx):
        loss, _ = self._calculate_loss(batch, mode="train")
        return loss

    def validation_step(self, batch, batch_idx):
        _ = self._calculate_loss(batch, mode="val")


model = ReversePredictor(input_dim=10, model_dim=32, num_heads=1, num_classes=10, num_layers=1, dropout=0.0, lr=5e-4,
                         max_iters=100, warmup=50)
""",
    _TRAIN.format("model --data train_loader --validation val_loader --trainer gradient_clip_val=5"),
]

_VIT = [
    "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\nimport lightning as L\nfrom torch import optim",
    """
def img_to_patch(x, patch_size, flatten_channels=True):
    B, C, H, W = x.shape
    x = x.reshape(B, C, H // patch_size, patch_size, W // patch_size, patch_size)
    x = x.permute(0, 2, 4, 1, 3, 5)
    x = x.flatten(1, 2)
    return x.flatten(2, 4) if flatten_channels else x


class AttentionBlock(nn.Module):
    def __init__(self, embed_dim, hidden_dim, num_heads, dropout=0.0):
        super().__init__()
        self.layer_norm_1 = nn.LayerNorm(embed_dim)
        self.attn = nn.MultiheadAttention(embed_dim, num_heads)
        self.layer_norm_2 = nn.LayerNorm(embed_dim)
        self.linear = nn.Sequential(nn.Linear(embed_dim, hidden_dim), nn.GELU(), nn.Dropout(dropout),
                                    nn.Linear(hidden_dim, embed_dim), nn.Dropout(dropout))

    def forward(self, x):
        inp_x = self.layer_norm_1(x)
        x = x + self.attn(inp_x, inp_x, inp_x)[0]
        return x + self.linear(self.layer_norm_2(x))
""",
    """
class VisionTransformer(nn.Module):
    def __init__(self, embed_dim, hidden_dim, num_channels, num_heads, num_layers, num_classes, patch_size, num_patches, dropout=0.0):
        super().__init__()
        self.patch_size = patch_size
        self.input_layer = nn.Linear(num_channels * (patch_size**2), embed_dim)
        self.transformer = nn.Sequential(*(AttentionBlock(embed_dim, hidden_dim, num_heads, dropout) for _ in range(num_layers)))
        self.mlp_head = nn.Sequential(nn.LayerNorm(embed_dim), nn.Linear(embed_dim, num_classes))
        self.cls_token = nn.Parameter(torch.randn(1, 1, embed_dim))
        self.pos_embedding = nn.Parameter(torch.randn(1, 1 + num_patches, embed_dim))

    def forward(self, x):
        x = self.input_layer(img_to_patch(x, self.patch_size))
        B, T, _ = x.shape
        x = torch.cat([self.cls_token.repeat(B, 1, 1), x], dim=1) + self.pos_embedding[:, : T + 1]
        x = self.transformer(x.transpose(0, 1))
        return self.mlp_head(x[0])
""",
    """
class ViT(L.LightningModule):
    def __init__(self, lr=3e-4):
        super().__init__()
        self.save_hyperparameters()
        self.model = VisionTransformer(embed_dim=32, hidden_dim=64, num_heads=4, num_layers=2, patch_size=2, num_channels=1,
                                       num_patches=16, num_classes=10)

    def forward(self, x):
        return self.model(x.view(-1, 1, 8, 8))

    def configure_optimizers(self):
        optimizer = optim.AdamW(self.parameters(), lr=self.hparams.lr)
        lr_scheduler = optim.lr_scheduler.MultiStepLR(optimizer, milestones=[100, 150], gamma=0.1)
        return [optimizer], [lr_scheduler]

    def _calculate_loss(self, batch, mode="train"):
        imgs, labels = batch
        preds = self.forward(imgs)
        loss = F.cross_entropy(preds, labels)
        self.log(f"{mode}_loss", loss)
        self.log(f"{mode}_acc", (preds.argmax(dim=-1) == labels).float().mean())
        return loss

    def training_step(self, batch, batch_idx):
        return self._calculate_loss(batch, mode="train")

    def validation_step(self, batch, batch_idx):
        self._calculate_loss(batch, mode="val")
""",
    _TRAIN.format("ViT --data digits --target digit --task multiclass --batch-size 128"),
]

_GRAPH = [
    "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\nimport lightning as L\n"
    "from torch.utils.data import DataLoader, Dataset",
    """
class GCNLayer(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.projection = nn.Linear(c_in, c_out)

    def forward(self, node_feats, adj_matrix):
        num_neighbours = adj_matrix.sum(dim=-1, keepdims=True)
        node_feats = self.projection(node_feats)
        return torch.bmm(adj_matrix, node_feats) / num_neighbours
""",
    """
class Rings(Dataset):
    def __len__(self):
        return 128

    def __getitem__(self, i):
        generator = torch.Generator().manual_seed(i)
        nodes = torch.randn(6, 4, generator=generator)
        adj = torch.eye(6) + torch.roll(torch.eye(6), 1, 0) * (i % 2)
        return nodes, adj, i % 2
""",
    """
class GraphLevelGNN(L.LightningModule):
    def __init__(self, c_hidden=16):
        super().__init__()
        self.layers = nn.ModuleList([GCNLayer(4, c_hidden), GCNLayer(c_hidden, c_hidden)])
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(c_hidden, 1))
        self.loss_module = nn.BCEWithLogitsLoss()

    def forward(self, data, mode="train"):
        x, adj, y = data
        for layer in self.layers:
            x = F.relu(layer(x, adj))
        x = self.head(x.mean(dim=1)).squeeze(dim=-1)
        loss = self.loss_module(x, y.float())
        acc = ((x > 0).float() == y).sum().float() / y.shape[0]
        return loss, acc

    def train_dataloader(self):
        return DataLoader(Rings(), batch_size=32, shuffle=True)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-2, weight_decay=0.0)

    def training_step(self, batch, batch_idx):
        loss, acc = self.forward(batch, mode="train")
        self.log("train_loss", loss)
        self.log("train_acc", acc)
        return loss
""",
    _TRAIN.format("GraphLevelGNN"),
]

_DQN = [
    "from collections import OrderedDict, deque, namedtuple\nfrom typing import Iterator, List, Tuple\n\n"
    "import numpy as np\nimport torch\nfrom pytorch_lightning import LightningModule, Trainer\nfrom torch import Tensor, nn\n"
    "from torch.optim import Adam, Optimizer\nfrom torch.utils.data import DataLoader\nfrom torch.utils.data.dataset import IterableDataset",
    """
class Balance:  # the tutorial takes a gym environment
    def __init__(self):
        self.random = np.random.default_rng(0)

    def reset(self):
        self.state, self.steps = self.random.normal(0, 0.1, 4), 0
        return self.state

    def step(self, action):
        self.steps += 1
        self.state = self.state * 1.05 + self.random.normal(0, 0.05, 4) - 0.1 * (action * 2 - 1)
        return self.state, 1.0, bool(abs(self.state[0]) > 2 or self.steps > 50), {}


Experience = namedtuple("Experience", field_names=["state", "action", "reward", "done", "new_state"])


class DQN(nn.Module):
    def __init__(self, obs_size: int, n_actions: int, hidden_size: int = 32):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(obs_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, n_actions))

    def forward(self, x):
        return self.net(x.float())
""",
    """
class ReplayBuffer:
    def __init__(self, capacity: int) -> None:
        self.buffer = deque(maxlen=capacity)

    def __len__(self) -> int:
        return len(self.buffer)

    def append(self, experience: Experience) -> None:
        self.buffer.append(experience)

    def sample(self, batch_size: int) -> Tuple:
        indices = np.random.choice(len(self.buffer), batch_size, replace=False)
        states, actions, rewards, dones, next_states = zip(*(self.buffer[idx] for idx in indices))
        return (np.array(states), np.array(actions), np.array(rewards, dtype=np.float32), np.array(dones, dtype=bool),
                np.array(next_states))


class RLDataset(IterableDataset):
    def __init__(self, buffer: ReplayBuffer, sample_size: int = 200) -> None:
        self.buffer = buffer
        self.sample_size = sample_size

    def __iter__(self) -> Iterator[Tuple]:
        states, actions, rewards, dones, new_states = self.buffer.sample(self.sample_size)
        for i in range(len(dones)):
            yield states[i], actions[i], rewards[i], dones[i], new_states[i]
""",
    """
class Agent:
    def __init__(self, env, replay_buffer: ReplayBuffer) -> None:
        self.env = env
        self.replay_buffer = replay_buffer
        self.reset()

    def reset(self) -> None:
        self.state = self.env.reset()

    def get_action(self, net: nn.Module, epsilon: float, device: str) -> int:
        if np.random.random() < epsilon:
            return int(np.random.randint(2))
        state = torch.tensor(np.array([self.state]))
        _, action = torch.max(net(state), dim=1)
        return int(action.item())

    @torch.no_grad()
    def play_step(self, net: nn.Module, epsilon: float = 0.0, device: str = "cpu") -> Tuple[float, bool]:
        action = self.get_action(net, epsilon, device)
        new_state, reward, done, _ = self.env.step(action)
        self.replay_buffer.append(Experience(self.state, action, reward, done, new_state))
        self.state = new_state
        if done:
            self.reset()
        return reward, done
""",
    """
class DQNLightning(LightningModule):
    def __init__(self, batch_size: int = 16, lr: float = 1e-2, gamma: float = 0.99, sync_rate: int = 10, replay_size: int = 1000,
                 warm_start_size: int = 200, episode_length: int = 100) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.env = Balance()
        self.net = DQN(4, 2)
        self.target_net = DQN(4, 2)
        self.buffer = ReplayBuffer(self.hparams.replay_size)
        self.agent = Agent(self.env, self.buffer)
        self.total_reward = 0
        self.populate(self.hparams.warm_start_size)

    def populate(self, steps: int = 1000) -> None:
        for _ in range(steps):
            self.agent.play_step(self.net, epsilon=1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def dqn_mse_loss(self, batch: Tuple[Tensor, Tensor]) -> Tensor:
        states, actions, rewards, dones, next_states = batch
        state_action_values = self.net(states).gather(1, actions.long().unsqueeze(-1)).squeeze(-1)
        with torch.no_grad():
            next_state_values = self.target_net(next_states).max(1)[0]
            next_state_values[dones] = 0.0
            next_state_values = next_state_values.detach()
        return nn.MSELoss()(state_action_values, next_state_values * self.hparams.gamma + rewards)

    def training_step(self, batch: Tuple[Tensor, Tensor], nb_batch) -> OrderedDict:
        reward, done = self.agent.play_step(self.net, 0.1, "cpu")
        self.total_reward += reward
        loss = self.dqn_mse_loss(batch)
        if self.global_step % self.hparams.sync_rate == 0:
            self.target_net.load_state_dict(self.net.state_dict())
        self.log_dict({"reward": reward, "train_loss": loss})
        self.log("total_reward", self.total_reward, prog_bar=True)
        return loss

    def configure_optimizers(self) -> List[Optimizer]:
        return Adam(self.net.parameters(), lr=self.hparams.lr)

    def __dataloader(self) -> DataLoader:
        dataset = RLDataset(self.buffer, self.hparams.episode_length)
        return DataLoader(dataset=dataset, batch_size=self.hparams.batch_size)

    def train_dataloader(self) -> DataLoader:
        return self.__dataloader()
""",
    "model = DQNLightning()",
    _TRAIN.format("model"),
]

_VAE = [
    "import pytorch_lightning as pl\nimport torch\nfrom torch import nn\nfrom torch.nn import functional as F",
    """
class VAE(pl.LightningModule):
    def __init__(self, input_dim, enc_out_dim=32, latent_dim=8):
        super().__init__()
        self.save_hyperparameters()
        self.encoder = nn.Sequential(nn.Linear(input_dim, enc_out_dim), nn.ReLU())
        self.decoder = nn.Sequential(nn.Linear(latent_dim, enc_out_dim), nn.ReLU(), nn.Linear(enc_out_dim, input_dim))
        self.fc_mu = nn.Linear(enc_out_dim, latent_dim)
        self.fc_var = nn.Linear(enc_out_dim, latent_dim)
        self.log_scale = nn.Parameter(torch.Tensor([0.0]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-4)

    def gaussian_likelihood(self, mean, logscale, sample):
        dist = torch.distributions.Normal(mean, torch.exp(logscale))
        return dist.log_prob(sample).sum(dim=1)

    def kl_divergence(self, z, mu, std):
        p = torch.distributions.Normal(torch.zeros_like(mu), torch.ones_like(std))
        q = torch.distributions.Normal(mu, std)
        return (q.log_prob(z) - p.log_prob(z)).sum(-1)

    def training_step(self, batch, batch_idx):
        x, _ = batch
        x_encoded = self.encoder(x)
        mu, log_var = self.fc_mu(x_encoded), self.fc_var(x_encoded)
        std = torch.exp(log_var / 2)
        z = torch.distributions.Normal(mu, std).rsample()
        x_hat = self.decoder(z)
        recon_loss = self.gaussian_likelihood(x_hat, self.log_scale, x)
        kl = self.kl_divergence(z, mu, std)
        elbo = (kl - recon_loss).mean()
        self.log_dict({"elbo": elbo, "kl": kl.mean(), "recon_loss": recon_loss.mean()})
        return elbo
""",
    _TRAIN.format("VAE --data digits --target digit --task multiclass --batch-size 128"),
]

_CONTRASTIVE = [
    "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\nimport lightning as L\nimport torch.utils.data as data",
    """
class ContrastiveTransformations:
    def __init__(self, base_transforms, n_views=2):
        self.base_transforms = base_transforms
        self.n_views = n_views

    def __call__(self, x):
        return [self.base_transforms(x) for i in range(self.n_views)]


contrast_transforms = lambda x: x + 0.1 * torch.randn_like(x)


class Images(data.Dataset):
    def __init__(self, transform):
        from sklearn.datasets import load_digits
        self.images, self.transform = torch.tensor(load_digits().images[:512], dtype=torch.float32)[:, None], transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.transform(self.images[i] / 16), 0
""",
    """
unlabeled_data = Images(transform=ContrastiveTransformations(contrast_transforms, n_views=2))
train_loader = data.DataLoader(unlabeled_data, batch_size=64, shuffle=True, drop_last=True)
""",
    """
class SimCLR(L.LightningModule):
    def __init__(self, hidden_dim, lr, temperature, weight_decay, max_epochs=500):
        super().__init__()
        self.save_hyperparameters()
        assert self.hparams.temperature > 0.0, "The temperature must be a positive float!"
        self.convnet = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.convnet.fc = nn.Sequential(nn.Linear(32, 4 * hidden_dim), nn.ReLU(inplace=True), nn.Linear(4 * hidden_dim, hidden_dim))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay)
        lr_scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.hparams.max_epochs, eta_min=self.hparams.lr / 50)
        return [optimizer], [lr_scheduler]

    def info_nce_loss(self, batch, mode="train"):
        imgs, _ = batch
        imgs = torch.cat(imgs, dim=0)
        feats = self.convnet(imgs)
        cos_sim = F.cosine_similarity(feats[:, None, :], feats[None, :, :], dim=-1)
        self_mask = torch.eye(cos_sim.shape[0], dtype=torch.bool, device=cos_sim.device)
        cos_sim.masked_fill_(self_mask, -9e15)
        pos_mask = self_mask.roll(shifts=cos_sim.shape[0] // 2, dims=0)
        cos_sim = cos_sim / self.hparams.temperature
        nll = (-cos_sim[pos_mask] + torch.logsumexp(cos_sim, dim=-1)).mean()
        self.log(mode + "_loss", nll)
        return nll

    def training_step(self, batch, batch_idx):
        return self.info_nce_loss(batch, mode="train")
""",
    "model = SimCLR(hidden_dim=16, lr=5e-4, temperature=0.07, weight_decay=1e-4)",
    _TRAIN.format("model --data train_loader"),
]

_LSTM = [
    "import numpy as np\nimport torch\nimport torch.nn as nn\nimport lightning.pytorch as pl\nfrom torch.utils.data import DataLoader, Dataset\n"
    "from lightning.pytorch.callbacks import EarlyStopping, Callback",
    "series = np.sin(np.arange(600) / 8).astype(np.float32)\nseq_len = 24\nparams = dict(hidden_size=16, num_layers=1, lr=0.01)\n"
    "criterion = nn.MSELoss()",
    """
class TimeseriesDataset(Dataset):
    def __init__(self, X, seq_len=1):
        self.X, self.seq_len = torch.tensor(X), seq_len

    def __len__(self):
        return len(self.X) - self.seq_len

    def __getitem__(self, index):
        return self.X[index : index + self.seq_len, None], self.X[index + self.seq_len]


class SineDataModule(pl.LightningDataModule):
    def setup(self, stage=None):
        self.train, self.val = TimeseriesDataset(series[:500], seq_len), TimeseriesDataset(series[500:], seq_len)

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=32, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, batch_size=32)
""",
    """
class LSTMRegressor(pl.LightningModule):
    def __init__(self, hidden_size=params["hidden_size"], num_layers=params["num_layers"]):
        super().__init__()
        self.lstm = nn.LSTM(input_size=1, hidden_size=hidden_size, num_layers=num_layers, batch_first=True)
        self.linear = nn.Linear(hidden_size, 1)

    def forward(self, x):
        lstm_out, _ = self.lstm(x)
        return self.linear(lstm_out[:, -1]).squeeze(-1)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=params["lr"])

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = criterion(self(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", criterion(self(x), y))
""",
    """
class Printing(Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        print("an epoch has ended:", trainer.callback_metrics["train_loss"].item())


stoppers = [EarlyStopping(monitor="val_loss", patience=2)]
stoppers.append(Printing())
""",
    _TRAIN.format(
        "LSTMRegressor --data SineDataModule --callbacks stoppers --trainer gradient_clip_val=0.5 accumulate_grad_batches=2"
    ).replace(" accumulate", " --trainer accumulate"),
]

_MULTI = [
    "import lightning as L\nimport torch\nfrom torch import nn\nfrom torch.optim.lr_scheduler import ExponentialLR",
    """
class TwoOptimizers(L.LightningModule):
    def __init__(self, width, outputs):
        super().__init__()
        self.automatic_optimization = False
        self.body, self.head = nn.Sequential(nn.Linear(width, 32), nn.ReLU()), nn.Linear(32, outputs)

    def forward(self, x):
        return self.head(self.body(x))

    def training_step(self, batch, batch_idx):
        opts = self.optimizers()
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        for opt in opts:
            opt.zero_grad()
        self.manual_backward(loss)
        self.clip_gradients(opts[0], gradient_clip_val=0.5, gradient_clip_algorithm="norm")
        if (batch_idx + 1) % 2 == 0:
            opts[1].step()
        opts[0].step()
        if self.trainer.is_last_batch:
            for scheduler in self.lr_schedulers():
                scheduler.step()
        self.log("loss", loss, on_epoch=True)

    def configure_optimizers(self):
        body, head = torch.optim.SGD(self.body.parameters(), 0.1), torch.optim.Adam(self.head.parameters(), 1e-3)
        return [body, head], [ExponentialLR(body, 0.9), ExponentialLR(head, 0.9)]
""",
    _TRAIN.format("TwoOptimizers --data digits --target digit --task multiclass --batch-size 64"),
]

_DATAMODULE = [
    "import os\n\nimport lightning as L\nimport torch\nfrom torch import nn\nfrom torch.nn import functional as F\n"
    "from torch.utils.data import DataLoader, random_split, TensorDataset\nfrom torchmetrics import Accuracy\n\n"
    'PATH_DATASETS = os.environ.get("PATH_DATASETS", ".")\nBATCH_SIZE = 64',
    """
class DigitsDataModule(L.LightningDataModule):
    def __init__(self, data_dir: str = PATH_DATASETS):
        super().__init__()
        self.data_dir = data_dir
        self.dims = (1, 8, 8)
        self.num_classes = 10

    def setup(self, stage=None):
        from sklearn.datasets import load_digits
        x, y = load_digits(return_X_y=True)
        full = TensorDataset(torch.tensor(x, dtype=torch.float32).view(-1, *self.dims) / 16, torch.tensor(y))
        if stage == "fit" or stage is None:
            self.train, self.val = random_split(full, [1500, 297])

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=BATCH_SIZE, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, batch_size=BATCH_SIZE)
""",
    """
class LitModel(L.LightningModule):
    def __init__(self, channels=1, width=8, height=8, num_classes=10, hidden_size=64, learning_rate=2e-4):
        super().__init__()
        self.hidden_size, self.learning_rate = hidden_size, learning_rate
        self.model = nn.Sequential(nn.Flatten(), nn.Linear(channels * width * height, hidden_size), nn.ReLU(), nn.Dropout(0.1),
                                   nn.Linear(hidden_size, num_classes))
        self.val_accuracy = Accuracy(task="multiclass", num_classes=num_classes)

    def forward(self, x):
        x = self.model(x)
        return F.log_softmax(x, dim=1)

    def training_step(self, batch):
        x, y = batch
        return F.nll_loss(self(x), y)

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.val_accuracy.update(torch.argmax(logits, dim=1), y)
        self.log("val_loss", F.nll_loss(logits, y), prog_bar=True)
        self.log("val_acc", self.val_accuracy, prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)
""",
]

_LOGGED = [
    *_DATAMODULE,
    "from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, TQDMProgressBar\n\n"
    'kept = [ModelCheckpoint(monitor="val_loss"), LearningRateMonitor("epoch"), TQDMProgressBar(refresh_rate=10)]',
    """
class Logged(LitModel):
    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        board = self.logger.experiment
        board.add_image("digits", batch[0][0], self.global_step)
        board.add_scalar("brightness", batch[0].mean(), self.global_step)
""",
]

TUTORIALS: dict[str, list[str]] = {
    "mlp": _MLP,
    "autoencoder": _AUTOENCODER,
    "gan": _GAN,
    "transformer": _TRANSFORMER,
    "vit": _VIT,
    "graph": _GRAPH,
    "dqn": _DQN,
    "vae": _VAE,
    "contrastive": _CONTRASTIVE,
    "lstm": _LSTM,
    "several optimisers": _MULTI,
    "data module": [*_DATAMODULE, _TRAIN.format("LitModel --data DigitsDataModule --early-stopping val_acc")],
    "two processes": [*_DATAMODULE, _TRAIN.format(f"LitModel --data DigitsDataModule --gpus {RANKS}")],
    "callbacks": [*_LOGGED, _TRAIN.format(f"Logged --data DigitsDataModule --callbacks kept --gpus {RANKS}")],
}
